// The formats that FFmpeg muxes, H.264 in .mp4 and VP9 in .webm, and their writer. Another format
// is another entry in muxed_formats().
#include <algorithm>
#include <utility>

#include "core/extension.h"
#include "io/output_file.h"
#include "io/video_writers.h"
#ifdef OSPNEXT_FFMPEG
#include "io/ffmpeg.h"
#endif

namespace ospnext {
namespace {

namespace fs = std::filesystem;

using Options = std::vector<std::pair<const char*, const char*>>;

struct MuxedFormat {
  const char* extension;
  const char* muxer;    // FFmpeg's name of the container
  const char* encoder;  // FFmpeg's name; frames reach it in yuv420p
  Options muxer_options;
  Options encoder_options;
};

const std::vector<MuxedFormat>& muxed_formats() {
  // Constant quality (no bit rate). CRF 24 looks like CRF 18 in H.264. cpu-used 2 takes a third of
  // the time of 0, at nearly the same size.
  static const std::vector<MuxedFormat> formats{
      {".mp4",
       "mp4",
       "libx264",
       {{"movflags", "+faststart"}},
       {{"preset", "medium"}, {"crf", "18"}}},
      {".webm",
       "webm",
       "libvpx-vp9",
       {},
       {{"b", "0"},
        {"crf", "24"},
        {"deadline", "good"},
        {"cpu-used", "2"},
        {"row-mt", "1"},
        {"threads", "auto"}}},
  };
  return formats;
}

#ifdef OSPNEXT_FFMPEG
EncoderSettings encoder_of(const MuxedFormat& muxed) {
  return {.name = muxed.encoder,
          .pixels = AV_PIX_FMT_YUV420P,
          .options = muxed.encoder_options,
          .global_header = true};
}

class MuxedWriter final : public VideoWriter {
 public:
  MuxedWriter(const MuxedFormat& muxed, const fs::path& output, const VideoFormat& format)
      : format_(format),
        file_(output),
        encoder_(encoder_of(muxed), format, output,
                 [this](AVPacket& packet) { muxer_.write(packet); }),
        muxer_(muxed.muxer, file_.path(), output, encoder_.context(), format.comment,
               muxed.muxer_options) {}

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
  const auto muxed =
      std::find_if(muxed_formats().begin(), muxed_formats().end(),
                   [&](const MuxedFormat& one) { return one.extension == extension_of(output); });
  return std::make_unique<MuxedWriter>(*muxed, output, format);
}
#else
constexpr decltype(&open_y4m) open_muxed = nullptr;
#endif

}  // namespace

std::vector<VideoContainer> muxed_containers() {
  std::vector<VideoContainer> list;
  for (const MuxedFormat& muxed : muxed_formats()) {
    list.push_back({muxed.extension, muxed.encoder, true, 16384, kAnyRate, open_muxed});
  }
  return list;
}

}  // namespace ospnext
