// YUV4MPEG2: a line of text, followed by raw frames.
#include <fstream>

#include "io/output_file.h"
#include "io/readers/y4m_file.h"
#include "io/video_readers.h"
#include "io/video_writers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

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
    const at::Tensor rgb = checked_frames(frames, format_).to(torch::kFloat32);  // [n, H, W, 3]
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
    out_.flush();
    check_written(out_, file_.target());
  }

  void finish() override {
    out_.close();
    check_written(out_, file_.target());
    file_.flush();
  }

  void commit() override { file_.commit(); }

 private:
  VideoFormat format_;
  PendingFile file_;
  std::ofstream out_;
};

// Chroma samples of twice the columns, where each sample lies on the left pixel of its two.
// plane [1, 1, h, w] -> [1, 1, h, 2·w]
at::Tensor doubled_from_left(const at::Tensor& plane) {
  const at::Tensor next =
      at::cat({plane.slice(3, 1), plane.slice(3, plane.size(3) - 1)}, 3);  // [1, 1, h, w]
  return at::stack({plane, (plane + next) / 2}, 4).flatten(3);             // [1, 1, h, 2·w]
}

class Y4mReader final : public VideoReader {
 public:
  explicit Y4mReader(const fs::path& file)
      : file_(file), to_rgb_(at::linalg_inv(bt601_matrix().to(at::kDouble)).to(at::kFloat)) {}

  double fps() const override { return file_.format().fps; }

  std::optional<VideoFrame> next() override {
    const auto planes = file_.next();
    if (!planes) {
      return std::nullopt;
    }
    const Y4mFormat& format = file_.format();
    const std::byte* data = planes->data();
    const at::Tensor luma = samples(data, format.height, format.width);
    data += luma.numel();
    std::vector<at::Tensor> yuv{limited(luma, 219, 16) - 16};
    for (int i = 0; i < 2; ++i) {
      if (format.chroma_width == 0) {
        yuv.push_back(at::zeros_like(luma));
        continue;
      }
      const at::Tensor chroma = samples(data, format.chroma_height, format.chroma_width);
      data += chroma.numel();
      yuv.push_back(enlarged(limited(chroma, 224, 128)) - 128);
    }
    const at::Tensor rgb = at::matmul(at::stack(yuv, -1), to_rgb_.t());  // [H, W, 3]
    return VideoFrame{.pixels = (rgb + 0.5).floor().clamp(0, 255).to(at::kByte),
                      .seconds = static_cast<double>(count_++) / format.fps};
  }

 private:
  static at::Tensor samples(const std::byte* data, int64_t rows, int64_t columns) {
    return at::from_blob(const_cast<std::byte*>(data), {rows, columns}, at::kByte).to(at::kFloat);
  }

  // Samples of limited range, in which `steps` lie between the lowest and the highest one.
  at::Tensor limited(const at::Tensor& plane, double steps, double middle) const {
    const double origin = middle == 128 ? 128 : 0;
    return file_.format().full_range ? (plane - origin) * (steps / 255) + middle : plane;
  }

  // Linear interpolation to the size of the frame. plane [h, w] -> [H, W]
  at::Tensor enlarged(const at::Tensor& plane) const {
    const Y4mFormat& format = file_.format();
    at::Tensor chroma = plane.view({1, 1, plane.size(0), plane.size(1)});  // [1, 1, h, w]
    const bool halves_columns = format.chroma_width < format.width;
    if (halves_columns && format.chroma_on_left) {
      chroma = doubled_from_left(chroma);
    }
    const int64_t rows =
        format.chroma_height < format.height ? 2 * format.chroma_height : format.chroma_height;
    const int64_t columns = halves_columns ? 2 * format.chroma_width : format.chroma_width;
    const at::Tensor whole = at::upsample_bilinear2d(chroma, {rows, columns}, false);
    return whole[0][0].slice(0, 0, format.height).slice(1, 0, format.width);
  }

  Y4mFile file_;
  at::Tensor to_rgb_;  // [3, 3]
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<VideoReader> read_y4m(const fs::path& file) {
  return std::make_unique<Y4mReader>(file);
}

std::unique_ptr<VideoWriter> open_y4m(const fs::path& output, const VideoFormat& format) {
  return std::make_unique<Y4mWriter>(output, format);
}

}  // namespace ospnext
