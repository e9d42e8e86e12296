// GIF with 256 colours chosen for the whole clip. Frames are kept in a file until the last one.
#ifdef OSPNEXT_FFMPEG

#include <fstream>

#include "core/error.h"
#include "io/ffmpeg.h"
#include "io/output_file.h"
#include "io/palette.h"
#include "io/video_writers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr size_t kColours = 255;  // one more index is for pixels that repeat the previous frame

// Inserts `comment` before the last byte of a GIF file, its trailer. Source: GIF89a, 24.
void add_gif_comment(const fs::path& file, const std::string& comment, const fs::path& target) {
  constexpr char kEnd = 0x3b;
  constexpr size_t kLongestBlock = 255;
  std::string extension = "\x21\xfe";
  for (size_t begin = 0; begin < comment.size(); begin += kLongestBlock) {
    const std::string block = comment.substr(begin, kLongestBlock);
    extension += static_cast<char>(block.size()) + block;
  }
  extension += '\0';
  std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
  out.seekg(-1, std::ios::end);
  TORCH_CHECK(out.get() == kEnd, "a GIF file ends in another byte");
  out.seekp(-1, std::ios::end);
  out << extension << kEnd << std::flush;
  check_written(out, target);
}

class GifWriter final : public VideoWriter {
 public:
  GifWriter(const fs::path& output, const VideoFormat& format)
      : format_(format),
        file_(output),
        waiting_(output, ".frames", LockedEntry::Kind::kFile),
        frames_(waiting_.path(), std::ios::binary | std::ios::in | std::ios::out) {}

  void write(const at::Tensor& frames) override {
    const at::Tensor pixels = checked_frames(frames, format_);  // [n, H, W, 3]
    colours_.add(pixels);
    frames_.write(reinterpret_cast<const char*>(pixels.const_data_ptr<uint8_t>()), pixels.numel());
    frames_.flush();
    check_written(frames_, file_.target());
    count_ += pixels.size(0);
  }

  void finish() override {
    const std::vector<Colour> palette = colours_.palette(kColours);
    std::vector<uint32_t> argb(256, 0);  // unused colours are transparent
    for (size_t i = 0; i < palette.size(); ++i) {
      const auto& [red, green, blue] = palette[i];
      argb[i] = 0xff000000u | uint32_t{red} << 16 | uint32_t{green} << 8 | blue;
    }
    PaletteDrawing drawing(palette);
    std::unique_ptr<FileMuxer> muxer;
    FrameEncoder encoder({.name = "gif", .pixels = AV_PIX_FMT_PAL8}, format_, file_.target(),
                         [&](AVPacket& packet) { muxer->write(packet); });
    muxer = std::make_unique<FileMuxer>("gif", file_.path(), file_.target(), encoder.context(), "");
    at::Tensor frame = torch::empty({format_.height, format_.width, 3}, torch::kUInt8);
    frames_.seekg(0);
    for (int64_t i = 0; i < count_; ++i) {
      if (!frames_.read(reinterpret_cast<char*>(frame.data_ptr<uint8_t>()), frame.numel())) {
        throw RunError(file_.target().string() + ": cannot read back the frames that waited");
      }
      encoder.encode(drawing.draw(frame), argb);
    }
    encoder.finish();
    muxer->finish();
    if (!format_.comment.empty()) {
      add_gif_comment(file_.path(), format_.comment, file_.target());
    }
    file_.flush();
  }

  void commit() override { file_.commit(); }

 private:
  VideoFormat format_;
  PendingFile file_;
  LockedEntry waiting_;
  std::fstream frames_;  // raw frames, each [H, W, 3]
  PaletteMaker colours_;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<VideoWriter> open_gif(const fs::path& output, const VideoFormat& format) {
  return std::make_unique<GifWriter>(output, format);
}

}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
