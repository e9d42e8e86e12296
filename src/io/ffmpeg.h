// Wrappers of FFmpeg's encoders and containers that release their memory and throw our errors.
#pragma once

#ifdef OSPNEXT_FFMPEG

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/video.h"

namespace ospnext {

template <class T, void (*release)(T**)>
struct FfmpegRelease {
  void operator()(T* pointer) const { release(&pointer); }
};
struct FfmpegScalerRelease {
  void operator()(SwsContext* scaler) const { sws_freeContext(scaler); }
};
struct FfmpegMuxerRelease {
  void operator()(AVFormatContext* muxer) const {
    avio_closep(&muxer->pb);
    avformat_free_context(muxer);
  }
};

using FfmpegOptions = std::vector<std::pair<const char*, const char*>>;

struct EncoderSettings {
  const char* name = "";  // FFmpeg's name of the encoder
  AVPixelFormat pixels = AV_PIX_FMT_NONE;
  FfmpegOptions options = {};  // of the encoder
  bool global_header = false;  // if the container keeps the headers outside the stream
};

// Encodes frames to packets, in order.
class FrameEncoder {
 public:
  using PacketSink = std::function<void(AVPacket&)>;

  // Packets go to `sink`. Their times count frames, the encoder's time base. `target` is named in
  // errors. Throws RunError.
  FrameEncoder(const EncoderSettings& settings, const VideoFormat& format,
               std::filesystem::path target, PacketSink sink);

  // Converts one frame [H, W, 3] uint8 RGB, contiguous, to the encoder's pixel format and encodes
  // it.
  void encode(const at::Tensor& rgb);
  // Encodes one frame of indices [H, W] uint8 into 256 colours of 0xAARRGGBB. The encoder's pixel
  // format must be PAL8.
  void encode(const at::Tensor& indices, const std::vector<uint32_t>& palette);
  // Ends the stream.
  void finish() { send(nullptr); }

  const AVCodecContext& context() const { return *encoder_; }

 private:
  AVFrame& next_frame();
  // A null frame ends the stream.
  void send(const AVFrame* frame);
  void make_scaler();

  std::filesystem::path target_;
  PacketSink sink_;
  std::unique_ptr<AVCodecContext, FfmpegRelease<AVCodecContext, avcodec_free_context>> encoder_;
  std::unique_ptr<AVFrame, FfmpegRelease<AVFrame, av_frame_free>> frame_;
  std::unique_ptr<AVPacket, FfmpegRelease<AVPacket, av_packet_free>> packet_;
  std::unique_ptr<SwsContext, FfmpegScalerRelease> scaler_;
  int64_t count_ = 0;
};

// Writes the packets of one encoder to a container file.
class FileMuxer {
 public:
  // Opens `file` and writes the header. `target` is named in errors. Throws RunError.
  FileMuxer(const char* format, const std::filesystem::path& file, std::filesystem::path target,
            const AVCodecContext& encoder, const std::string& comment,
            const FfmpegOptions& options = {});

  // Throws RunError.
  void write(AVPacket& packet);
  // Writes the trailer and closes the file. Throws RunError.
  void finish();

 private:
  std::filesystem::path target_;
  std::unique_ptr<AVFormatContext, FfmpegMuxerRelease> muxer_;
  AVStream* stream_ = nullptr;  // owned by the muxer
  AVRational time_base_;        // of the incoming packets
};

// Throws RunError "TARGET: cannot ACTION: reason" if `result` of an FFmpeg function is negative.
void check_ffmpeg(int result, const std::filesystem::path& target, const char* action);

}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
