// Video files, written frame by frame: .mp4, .webm, .webp, .gif, .y4m, or numbered PNG images.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/torch/torch.h"

namespace ospnext {

struct VideoFormat {
  int64_t width = 0;
  int64_t height = 0;
  double fps = 16;
  std::string comment;  // UTF-8, kept in the file; .y4m has no place for it
};

// A video being written. It appears under its name at commit(); an object destroyed before leaves
// nothing behind. Memory does not grow with the number of frames.
class VideoWriter {
 public:
  virtual ~VideoWriter() = default;
  // frames [n, H, W, 3] uint8 RGB, in order. Throws RunError.
  virtual void write(const at::Tensor& frames) = 0;
  // Writes what is still missing to disk. Call once, after at least one frame. Throws RunError.
  virtual void finish() = 0;
  // Gives the finished video its name. Throws RunError.
  virtual void commit() = 0;
};

// Throws InputError, naming `flag`, when the name of `output` says no known format (or more than one
// number), when that format cannot hold such a video or needs what this program or its FFmpeg lacks, or
// when the file cannot be written. Leaves nothing.
void check_video_output(const std::filesystem::path& output, const VideoFormat& format,
                        const std::string& flag);

// By the name of `output`:
//   .mp4   H.264 in yuv420p, BT.709, index in front; sides must be even
//   .webm  VP9 in yuv420p, BT.709; sides must be even
//   .webp  animated, lossy, for ever
//   .gif   256 colours chosen for the whole clip, for ever; at most 50 frames a second
//   .y4m   YUV4MPEG2, 4:2:0 with the chroma sample amid its four pixels, limited range, BT.601 (the
//          format has no tag for the matrix; FFmpeg assumes this one); sides must be even
//   .png   with one number such as %04d in it: 8-bit RGB, numbered from 0
// Throws InputError as check_video_output does.
std::unique_ptr<VideoWriter> open_video(const std::filesystem::path& output,
                                        const VideoFormat& format);

// The name of frame `index` by a pattern such as "frames/%04d.png".
std::filesystem::path numbered_file(const std::filesystem::path& pattern, int64_t index);

// floor((x + 1) / 2 * 255 + 0.5), clamped: video [3, n, H, W] float in [-1, 1] on any device ->
// [n, H, W, 3] uint8 on the CPU. Source: OSP-Next, saving of its pipeline's output.
at::Tensor video_to_pixels(const at::Tensor& video);

struct FrameRate {
  int64_t numerator;
  int64_t denominator;
};
// Whole numbers stay so, 23.976, 29.97 and 59.94 become n/1001, others get thousandths.
FrameRate frame_rate(double fps);

}  // namespace ospnext
