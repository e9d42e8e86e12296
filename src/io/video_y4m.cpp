// YUV4MPEG2: a line of text, followed by raw frames.
#include <fstream>

#include "io/output_file.h"
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

}  // namespace

std::unique_ptr<VideoWriter> open_y4m(const fs::path& output, const VideoFormat& format) {
  return std::make_unique<Y4mWriter>(output, format);
}

}  // namespace ospnext
