// Animated WebP. FFmpeg's libwebp encodes every frame as a lossy image. The container is written
// here, because FFmpeg's container drops metadata.
// Source: Google, WebP Container Specification; Adobe, XMP Part 3 (WebP).
#ifdef OSPNEXT_FFMPEG

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "io/ffmpeg.h"
#include "io/output_file.h"
#include "io/readers/video_comment.h"
#include "io/video_writers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (; bytes > 0; --bytes, value >>= 8) {
    text += static_cast<char>(value & 0xff);
  }
  return text;
}

// A chunk: name, length, and data padded to an even length.
std::string chunk(const char* name, const std::string& data) {
  return name + little_endian(data.size(), 4) + data + std::string(data.size() % 2, '\0');
}

class WebpWriter final : public VideoWriter {
 public:
  WebpWriter(const fs::path& output, const VideoFormat& format)
      : format_(format),
        file_(output),
        out_(file_.path(), std::ios::binary),
        encoder_({.name = "libwebp",
                  .pixels = AV_PIX_FMT_RGB32,  // libwebp converts colours best itself
                  .options = {{"quality", "85"}}},
                 format, output, [this](AVPacket& packet) { add_frame(packet); }) {
    constexpr char kAnimated = 0x02, kHasXmp = 0x04;
    const char flags = static_cast<char>(kAnimated | (format.comment.empty() ? 0 : kHasXmp));
    put("RIFF" + little_endian(0, 4) + "WEBP");  // the length is filled in at the end
    put(chunk("VP8X", flags + std::string(3, '\0') + sides()));
    put(chunk("ANIM", std::string(6, '\0')));  // no background, endless loop
  }

  void write(const at::Tensor& frames) override {
    const at::Tensor pixels = checked_frames(frames, format_);  // [n, H, W, 3]
    for (int64_t i = 0; i < pixels.size(0); ++i) {
      encoder_.encode(pixels[i]);
    }
  }

  void finish() override {
    encoder_.finish();
    if (!format_.comment.empty()) {
      put(chunk("XMP ", comment_to_xmp(format_.comment)));
    }
    const auto size = static_cast<uint64_t>(out_.tellp());
    constexpr uint64_t kMostBytes = 0xfffffffe;
    if (size > kMostBytes) {
      throw RunError(file_.target().string() + ": cannot write: a .webp holds at most 4 GiB");
    }
    out_.seekp(4);
    put(little_endian(size - 8, 4));
    out_.close();
    check_written(out_, file_.target());
    file_.flush();
  }

  void commit() override { file_.commit(); }

 private:
  // Width - 1 and height - 1, in three bytes each.
  std::string sides() const {
    return little_endian(static_cast<uint64_t>(format_.width - 1), 3) +
           little_endian(static_cast<uint64_t>(format_.height - 1), 3);
  }

  void put(const std::string& bytes) {
    out_ << bytes << std::flush;
    check_written(out_, file_.target());
  }

  int64_t milliseconds(int64_t frame) const {
    return std::llround(static_cast<double>(frame) * 1000 / format_.fps);
  }

  // The packet is a WebP file with one image. Its chunks after the file header are the frame.
  void add_frame(const AVPacket& packet) {
    constexpr int kFileHeader = 12;
    TORCH_CHECK(packet.size > kFileHeader, "libwebp gave no image");
    const std::string image(reinterpret_cast<const char*>(packet.data) + kFileHeader,
                            static_cast<size_t>(packet.size - kFileHeader));
    const auto duration = static_cast<uint64_t>(milliseconds(count_ + 1) - milliseconds(count_));
    ++count_;
    const char replace = 0x02;  // replaces the previous frame without blending
    put(chunk("ANMF",
              std::string(6, '\0') + sides() + little_endian(duration, 3) + replace + image));
  }

  VideoFormat format_;
  PendingFile file_;
  std::ofstream out_;
  FrameEncoder encoder_;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<VideoWriter> open_webp(const fs::path& output, const VideoFormat& format) {
  return std::make_unique<WebpWriter>(output, format);
}

}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
