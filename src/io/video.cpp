#include "io/video.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/torch/shape_check.h"
#include "io/image.h"
#include "io/output_file.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

void check_frames(const at::Tensor& frames, const VideoFormat& format) {
  CHECK_SHAPE(frames, -1, format.height, format.width, 3);
  TORCH_CHECK(frames.scalar_type() == torch::kUInt8, "frames: expected uint8");
}

// Weights of R, G, B (0 to 255) in Y, Cb, Cr of limited range. Source: ITU-R BT.601-7, 2.5.
at::Tensor bt601_matrix() {
  return torch::tensor(
             {{65.481, 128.553, 24.966}, {-37.797, -74.203, 112.0}, {112.0, -93.786, -18.214}},
             torch::kFloat32) /
         255.0;
}

// rgb [n, h, w, 3] float 0..255 -> one plane [n, h, w] uint8; `row` 0 is Y, 1 Cb, 2 Cr.
at::Tensor yuv_plane(const at::Tensor& rgb, int64_t row) {
  const at::Tensor plane = torch::matmul(rgb, bt601_matrix()[row]) + (row == 0 ? 16.0 : 128.0);
  return (plane + 0.5).floor().to(torch::kUInt8).contiguous();
}

class Y4mWriter final : public VideoWriter {
 public:
  Y4mWriter(const fs::path& output, const VideoFormat& format)
      : format_(format), file_(output), out_(file_.path(), std::ios::binary) {
    const FrameRate rate = frame_rate(format.fps);
    out_ << "YUV4MPEG2 W" << format.width << " H" << format.height << " F" << rate.numerator << ":"
         << rate.denominator << " Ip A1:1 C420jpeg XYSCSS=420JPEG XCOLORRANGE=LIMITED\n";
  }

  void write(const at::Tensor& frames) override {
    check_frames(frames, format_);
    const at::Tensor rgb = frames.cpu().to(torch::kFloat32);  // [n, H, W, 3]
    const at::Tensor quarter =
        torch::avg_pool2d(rgb.permute({0, 3, 1, 2}), 2).permute({0, 2, 3, 1});  // [n, H/2, W/2, 3]
    const at::Tensor planes[] = {yuv_plane(rgb, 0), yuv_plane(quarter, 1), yuv_plane(quarter, 2)};
    for (int64_t i = 0; i < frames.size(0); ++i) {
      out_ << "FRAME\n";
      for (const at::Tensor& plane : planes) {
        const at::Tensor one = plane[i];
        out_.write(reinterpret_cast<const char*>(one.const_data_ptr<uint8_t>()), one.numel());
      }
    }
    check_stream();
  }

  void finish() override {
    out_.close();
    check_stream();
    file_.commit();
  }

 private:
  void check_stream() const {
    if (!out_) {
      throw RunError(file_.target().string() + ": cannot write: the disk may be full");
    }
  }

  VideoFormat format_;
  PendingFile file_;
  std::ofstream out_;
};

// Frames wait in a hidden folder beside their place until the last one is there.
class PngWriter final : public VideoWriter {
 public:
  PngWriter(const fs::path& pattern, const VideoFormat& format)
      : pattern_(pattern), format_(format) {
    std::string folder = (pattern.parent_path() / ".frames.XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) {
      throw InputError(pattern.string() + ": cannot write here");
    }
    folder_ = folder;
  }

  ~PngWriter() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  void write(const at::Tensor& frames) override {
    check_frames(frames, format_);
    for (int64_t i = 0; i < frames.size(0); ++i) {
      write_png(folder_ / std::to_string(count_), frames[i]);
      ++count_;
    }
  }

  void finish() override {
    for (int64_t i = 0; i < count_; ++i) {
      std::error_code error;
      fs::rename(folder_ / std::to_string(i), numbered_file(pattern_, i), error);
      if (error) {
        throw RunError(numbered_file(pattern_, i).string() +
                       ": cannot rename the finished file: " + error.message());
      }
    }
  }

 private:
  fs::path pattern_;
  VideoFormat format_;
  fs::path folder_;
  int64_t count_ = 0;
};

struct NumberPlace {
  size_t begin;
  size_t end;
  size_t digits;  // padded with zeros to this many
};

// The only %d or %0Nd of a file name, or nothing.
std::vector<NumberPlace> number_places(const std::string& name) {
  std::vector<NumberPlace> places;
  for (size_t begin = name.find('%'); begin != std::string::npos;
       begin = name.find('%', begin + 1)) {
    size_t end = begin + 1;
    size_t digits = 0;
    while (end < name.size() && name[end] >= '0' && name[end] <= '9' && digits < 100) {
      digits = digits * 10 + static_cast<size_t>(name[end++] - '0');
    }
    const bool well_formed = end < name.size() && name[end] == 'd' && digits <= 9 &&
                             (digits == 0 || name[begin + 1] == '0');
    places.push_back({begin, well_formed ? end + 1 : begin, digits});
  }
  return places;
}

bool is_frame_pattern(const fs::path& output) {
  const auto places = number_places(output.filename().string());
  return output.extension() == ".png" && places.size() == 1 && places[0].end > places[0].begin;
}

}  // namespace

void check_video_output(const fs::path& output, const std::string& flag) {
  const std::string what = flag + " " + output.string() + ": ";
  const fs::path extension = output.extension();
  if (extension != ".mp4" && extension != ".y4m" && !is_frame_pattern(output)) {
    throw InputError(
        what +
        "expected a name ending in .mp4 or .y4m, or one for PNG frames with one number "
        "in it, such as %04d.png");
  }
#ifndef OSPNEXT_FFMPEG
  if (extension == ".mp4") {
    throw InputError(what + "this program was built without FFmpeg; use .y4m or %04d.png");
  }
#endif
  check_writable(extension == ".png" ? numbered_file(output, 0) : output, flag);
}

std::unique_ptr<VideoWriter> open_video(const fs::path& output, const VideoFormat& format) {
  check_video_output(output, "output");
  if (output.extension() == ".png") {
    return std::make_unique<PngWriter>(output, format);
  }
  if (format.width % 2 != 0 || format.height % 2 != 0) {
    throw InputError(output.string() + ": " + std::to_string(format.width) + "x" +
                     std::to_string(format.height) + ", expected even sides");
  }
  if (output.extension() == ".y4m") {
    return std::make_unique<Y4mWriter>(output, format);
  }
  return open_mp4(output, format);
}

fs::path numbered_file(const fs::path& pattern, int64_t index) {
  std::string name = pattern.filename().string();
  const auto places = number_places(name);
  TORCH_CHECK(places.size() == 1 && places[0].end > places[0].begin, "no pattern: ", name);
  std::string number = std::to_string(index);
  if (number.size() < places[0].digits) {
    number.insert(0, places[0].digits - number.size(), '0');
  }
  return pattern.parent_path() /
         name.replace(places[0].begin, places[0].end - places[0].begin, number);
}

at::Tensor video_to_pixels(const at::Tensor& video) {
  CHECK_SHAPE(video, 3, -1, -1, -1);
  return ((video.to(torch::kFloat32) + 1) / 2 * 255 + 0.5)
      .floor()
      .clamp(0, 255)
      .to(torch::kUInt8)
      .permute({1, 2, 3, 0})  // [n, H, W, 3]
      .contiguous()
      .cpu();
}

FrameRate frame_rate(double fps) {
  if (fps == std::floor(fps)) {
    return {static_cast<int64_t>(fps), 1};
  }
  const int64_t thousands = std::llround(fps * 1.001);
  if (std::abs(static_cast<double>(thousands) / 1.001 - fps) < 0.0005) {
    return {thousands * 1000, 1001};
  }
  const int64_t thousandths = std::llround(fps * 1000);
  const int64_t divisor = std::gcd(thousandths, int64_t{1000});
  return {thousandths / divisor, 1000 / divisor};
}

#ifndef OSPNEXT_FFMPEG
std::unique_ptr<VideoWriter> open_mp4(const fs::path& output, const VideoFormat&) {
  throw InputError(output.string() + ": this program was built without FFmpeg");
}
#endif

}  // namespace ospnext
