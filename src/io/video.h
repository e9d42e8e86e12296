// Video files, written frame by frame: .mp4, .webm, .webp, .gif, .y4m, or numbered PNG images.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/torch/torch.h"

namespace ospnext {

struct VideoFormat {
  int64_t width = 0;
  int64_t height = 0;
  double fps = 16;
  std::string comment;  // UTF-8, stored in the file; .y4m cannot store it
};

// A video that is being written. It gets its name at commit(). An object destroyed before that
// leaves no file. Memory does not grow with the number of frames.
class VideoWriter {
 public:
  virtual ~VideoWriter() = default;
  // frames [n, H, W, 3] uint8 RGB, in order. Throws RunError.
  virtual void write(const at::Tensor& frames) = 0;
  // Writes all remaining data to disk. Call once, after at least one frame. Throws RunError.
  virtual void finish() = 0;
  // Renames the finished video to its name. Throws RunError.
  virtual void commit() = 0;
};

// The endings of the names of video files, for messages: ".mp4, .webm, ... or .y4m".
const std::string& video_endings();

// Whether the name ends as those of video files and PNG images do, in any case.
bool is_video_name(const std::filesystem::path& file);

// Throws InputError with `flag` if the name of `output` has no known format (or contains more than
// one number), if the format cannot store such a video or needs an encoder that this program or its
// FFmpeg lacks, or if the file cannot be written. Leaves no file.
void check_video_output(const std::filesystem::path& output, const VideoFormat& format,
                        const std::string& flag);

// By the ending of `output`'s name, in any case:
//   .mp4   H.264 in yuv420p, BT.709, index in front; sides must be even
//   .webm  VP9 in yuv420p, BT.709; sides must be even
//   .webp  animated, lossy, endless loop
//   .gif   256 colours chosen for the whole clip, endless loop; at most 50 frames per second
//   .y4m   YUV4MPEG2, 4:2:0 with chroma in the middle of four pixels, limited range, BT.601 (the
//          format has no tag for the matrix; FFmpeg assumes this one); sides must be even
//   .png   with one number such as %04d in it: 8-bit RGB, numbered from 0; %% is a percent
//          sign there
// Throws InputError as check_video_output does.
std::unique_ptr<VideoWriter> open_video(const std::filesystem::path& output,
                                        const VideoFormat& format);

// A name for numbered PNG images, around its only %d or %0Nd, with %% read as a percent sign.
struct FramePattern {
  std::string before, after;  // of the file's name
  size_t digits = 0;          // padded with zeros to this many
};
// Nothing for a name of another kind, in which a percent sign is a character like any other.
std::optional<FramePattern> frame_pattern(const std::filesystem::path& output);

// The name of frame `index` by a pattern such as "frames/%04d.png".
std::filesystem::path numbered_file(const std::filesystem::path& output, int64_t index);

// Computes floor((x + 1) / 2 * 255 + 0.5), clamped: video [3, n, H, W] float in [-1, 1] on any
// device -> [n, H, W, 3] uint8 on the CPU. Source: OSP-Next, saving of its pipeline's output.
at::Tensor video_to_pixels(const at::Tensor& video);

struct FrameRate {
  int64_t numerator;
  int64_t denominator;
};
// Whole rates stay whole, 23.976, 29.97 and 59.94 become n/1001, and others are rounded to
// thousandths.
FrameRate frame_rate(double fps);

}  // namespace ospnext
