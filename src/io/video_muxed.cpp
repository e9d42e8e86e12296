// H.264 in .mp4 and VP9 in .webm, written through FFmpeg. Another format that FFmpeg muxes needs an
// entry in muxed_formats() and one in kContainers.
#include <array>
#include <map>

#include "core/extension.h"
#include "io/output_file.h"
#include "io/video_writers.h"
#ifdef OSPNEXT_FFMPEG
#include "io/ffmpeg.h"
#endif

namespace ospnext {
namespace {

namespace fs = std::filesystem;

#ifdef OSPNEXT_FFMPEG
struct MuxedFormat {
  const char* name;  // FFmpeg's name of the container
  FfmpegOptions options;
  EncoderSettings encoder;
};

// By the ending of the name.
const std::map<std::string, MuxedFormat>& muxed_formats() {
  // Constant quality (no bit rate). CRF 24 looks like CRF 18 in H.264. cpu-used 2 takes a third of
  // the time of 0, at nearly the same size.
  static const std::map<std::string, MuxedFormat> formats{
      {".mp4",
       {"mp4",
        {{"movflags", "+faststart"}},
        {.name = "libx264",
         .pixels = AV_PIX_FMT_YUV420P,
         .options = {{"preset", "medium"}, {"crf", "18"}},
         .global_header = true}}},
      {".webm",
       {"webm",
        {},
        {.name = "libvpx-vp9",
         .pixels = AV_PIX_FMT_YUV420P,
         .options = {{"b", "0"},
                     {"crf", "24"},
                     {"deadline", "good"},
                     {"cpu-used", "2"},
                     {"row-mt", "1"},
                     {"threads", "auto"}},
         .global_header = true}}},
  };
  return formats;
}

const MuxedFormat& format_of(const fs::path& output) {
  return muxed_formats().at(extension_of(output));
}

class MuxedWriter final : public VideoWriter {
 public:
  MuxedWriter(const fs::path& output, const VideoFormat& format)
      : format_(format),
        file_(output),
        encoder_(format_of(output).encoder, format, output,
                 [this](AVPacket& packet) { muxer_.write(packet); }),
        muxer_(format_of(output).name, file_.path(), output, encoder_.context(), format.comment,
               format_of(output).options) {}

  void write(const at::Tensor& frames) override {
    const at::Tensor pixels = checked_frames(frames, format_);  // [n, H, W, 3]
    for (int64_t i = 0; i < pixels.size(0); ++i) {
      encoder_.encode(pixels[i]);
    }
  }

  void finish() override {
    encoder_.finish();
    muxer_.finish();
    file_.flush();
  }

  void commit() override { file_.commit(); }

 private:
  VideoFormat format_;
  PendingFile file_;  // destroyed last: the muxer must close the file first
  FrameEncoder encoder_;
  FileMuxer muxer_;
};

std::unique_ptr<VideoWriter> open_muxed(const fs::path& output, const VideoFormat& format) {
  return std::make_unique<MuxedWriter>(output, format);
}
#else
constexpr decltype(&open_y4m) open_muxed = nullptr;
#endif

constexpr std::array<VideoContainer, 2> kContainers{{
    {".mp4", "libx264", true, 16384, kAnyRate, open_muxed},
    {".webm", "libvpx-vp9", true, 16384, kAnyRate, open_muxed},
}};

}  // namespace

std::span<const VideoContainer> muxed_containers() {
  return kContainers;
}

}  // namespace ospnext
