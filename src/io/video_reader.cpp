#include "io/video_reader.h"

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "core/torch/shape_check.h"
#include "io/readers/frame_size.h"
#include "io/video_readers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

bool begins_as_y4m(const fs::path& file) {
  constexpr std::string_view kMagic = "YUV4MPEG2";
  char start[kMagic.size()];
  std::ifstream in(file, std::ios::binary);
  return in.read(start, sizeof start) && std::string_view(start, sizeof start) == kMagic;
}

// The place of the cut. Source: Python's round(), which OSP-Next's transforms call.
int64_t half_of(int64_t rest) {
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(rest) / 2));
}

}  // namespace

std::unique_ptr<VideoReader> open_video_reader(const fs::path& file, double image_fps) {
  std::error_code error;
  if (fs::is_directory(file, error)) {
    return read_png_folder(file, image_fps);
  }
  if (!fs::is_regular_file(file, error) || !std::ifstream(file)) {
    throw InputError(file.string() + ": cannot be read");
  }
  if (begins_as_y4m(file)) {
    return read_y4m(file);
  }
#ifdef OSPNEXT_FFMPEG
  return read_with_ffmpeg(file);
#else
  throw InputError(file.string() +
                   ": this program was built without FFmpeg; it reads .y4m and folders of PNG "
                   "images");
#endif
}

std::optional<at::Tensor> SampledFrames::next() {
  constexpr double kTie = 1e-6;  // seconds; containers round times
  if (!has_begun_) {
    has_begun_ = true;
    later_ = reader_.next();
  }
  const bool takes_all = sampling_.fps == 0;
  const double time =
      sampling_.start + (takes_all ? 0 : static_cast<double>(count_) / sampling_.fps);
  while (later_ && later_->seconds < time - kTie) {
    earlier_ = std::move(later_);
    later_ = reader_.next();
  }
  if (takes_all) {
    if (!later_) {
      return std::nullopt;
    }
    const at::Tensor pixels = later_->pixels;
    later_ = reader_.next();
    return pixels;
  }
  if (!later_ && (!earlier_ || time - earlier_->seconds > 0.5 / sampling_.fps - kTie)) {
    return std::nullopt;
  }
  const bool takes_earlier =
      earlier_ && (!later_ || time - earlier_->seconds <= later_->seconds - time + kTie);
  const VideoFrame& frame = takes_earlier ? *earlier_ : *later_;
  repeats_ += frame.seconds == last_taken_ ? 1 : 0;
  last_taken_ = frame.seconds;
  ++count_;
  return frame.pixels;
}

at::Tensor fitted(const at::Tensor& pixels, int64_t height, int64_t width,
                  const std::string& origin) {
  CHECK_SHAPE(pixels, -1, -1, 3);
  const int64_t rows = pixels.size(0), columns = pixels.size(1);
  if (rows == height && columns == width) {
    return pixels;
  }
  // the smallest size of the frame's shape that covers the target, in whole numbers
  const bool fills_height = height * columns >= width * rows;
  const int64_t scaled_rows = fills_height ? height : (rows * width + columns - 1) / columns;
  const int64_t scaled_columns = fills_height ? (columns * height + rows - 1) / rows : width;
  check_frame_size(scaled_columns, scaled_rows, origin + ": scaled to its size");
  const at::Tensor image = pixels.permute({2, 0, 1}).unsqueeze(0);  // [1, 3, H, W]
  const at::Tensor scaled = at::_upsample_bicubic2d_aa(image, {scaled_rows, scaled_columns}, false);
  return scaled[0]
      .narrow(1, half_of(scaled_rows - height), height)
      .narrow(2, half_of(scaled_columns - width), width)
      .permute({1, 2, 0})  // [height, width, 3]
      .contiguous();
}

at::Tensor read_frames(const fs::path& file, const FrameSampling& sampling, int64_t most,
                       int64_t height, int64_t width) {
  const auto reader = open_video_reader(file);
  SampledFrames sampled(*reader, sampling);
  std::vector<at::Tensor> frames;
  while (static_cast<int64_t>(frames.size()) < most) {
    const auto frame = sampled.next();
    if (!frame) {
      break;
    }
    frames.push_back(height == 0 ? *frame : fitted(*frame, height, width, file.string()));
  }
  if (frames.empty()) {
    throw InputError(file.string() + ": found no frame");
  }
  return at::stack(frames);
}

at::Tensor pixels_to_video(const at::Tensor& frames) {
  CHECK_SHAPE(frames, -1, -1, -1, 3);
  return (frames.permute({3, 0, 1, 2}).to(at::kFloat) / 127.5 - 1).contiguous();  // [3, F, H, W]
}

}  // namespace ospnext
