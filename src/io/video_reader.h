// Video files, read frame by frame: .y4m, folders of PNG images, and what FFmpeg's libraries open.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/torch/torch.h"

namespace ospnext {

struct VideoFrame {
  at::Tensor pixels;   // [H, W, 3] uint8 RGB
  double seconds = 0;  // when it is shown, behind the first frame
};

// A video that is being read. Memory does not grow with the number of frames.
class VideoReader {
 public:
  virtual ~VideoReader() = default;
  // The next frame in the order in which they are shown, all of one size; nothing behind the last
  // one. Throws InputError for a damaged file and for times that do not rise.
  virtual std::optional<VideoFrame> next() = 0;
  // Frames a second as the file states them, the mean where they vary; 0 if it does not.
  virtual double fps() const = 0;
};

// By content:
//   folder  PNG images, ordered by the last number in their names, image_fps of them a second
//   y4m     YUV4MPEG2 of 8 bits, the matrix of BT.601, as open_video() writes it
//   others  the first video of a file that FFmpeg opens: .mp4, .mov, .mkv, .webm, .gif, .avi, ...
//           Turned as its metadata say. Without a tag, frames of more than 576 rows have the matrix
//           of BT.709, and others that of BT.601
// Throws InputError for a file that cannot be read, is no video, or is interlaced, HDR, of pixels
// that are not square, or larger than kMostPixels. Only the file itself is read: no other protocol,
// no playlist.
std::unique_ptr<VideoReader> open_video_reader(const std::filesystem::path& file,
                                               double image_fps = 16);

// Which frames of a video are taken. With fps > 0, frame k of the result is the one that is shown
// nearest to start + k / fps seconds behind the first frame of the file, the earlier one of two
// equally near (within a microsecond). The last frame is taken for times less than half of 1 / fps
// behind it. With fps 0, all frames from `start` on are taken.
struct FrameSampling {
  double fps = 0;
  double start = 0;  // seconds
};

class SampledFrames {
 public:
  // `reader` outlives the object.
  SampledFrames(VideoReader& reader, const FrameSampling& sampling)
      : reader_(reader), sampling_(sampling) {}

  // The next frame [H, W, 3] uint8; nothing behind the last one. Throws as the reader does.
  std::optional<at::Tensor> next();
  // How many frames were the same as the one before them: the video has fewer frames a second than
  // were asked for.
  int64_t repeats() const { return repeats_; }

 private:
  VideoReader& reader_;
  FrameSampling sampling_;
  std::optional<VideoFrame> earlier_, later_;  // around the next time
  bool has_begun_ = false;
  int64_t count_ = 0;
  int64_t repeats_ = 0;
  double last_taken_ = -1;  // seconds
};

// Scales a frame so that it covers height x width, and cuts its middle out. The other side is
// rounded up; the cut begins at half of what is left over, rounded, halves to the even number.
// Scaling is bicubic (a = -0.5) with antialiasing: the columns and then the rows, each rounded and
// clamped.
// pixels [H, W, 3] uint8 -> [height, width, 3] uint8
// Throws InputError, beginning with `origin`, if the scaled frame has more than kMostPixels.
// Source: OSP-Next, transforms of its WanT2VDataset; PIL's Image.resize(BICUBIC).
at::Tensor fitted(const at::Tensor& pixels, int64_t height, int64_t width,
                  const std::string& origin);

// The first `most` frames at most, each as it is if height is 0, else fitted. -> [F, H, W, 3]
// uint8, F >= 1. Throws InputError beginning with the file's name, also when there is no frame.
at::Tensor read_frames(const std::filesystem::path& file, const FrameSampling& sampling,
                       int64_t most, int64_t height = 0, int64_t width = 0);

// x / 127.5 - 1: frames [F, H, W, 3] uint8 -> [3, F, H, W] float32 in [-1, 1].
at::Tensor pixels_to_video(const at::Tensor& frames);

}  // namespace ospnext
