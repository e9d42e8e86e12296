// H.264 in .mp4 through FFmpeg's libraries.
#ifdef OSPNEXT_FFMPEG

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/error.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
}

#include <string>

#include "core/error.h"
#include "core/torch/shape_check.h"
#include "io/output_file.h"
#include "io/video.h"

namespace ospnext {
namespace {

template <class T, void (*release)(T**)>
struct Release {
  void operator()(T* pointer) const { release(&pointer); }
};
struct ReleaseScaler {
  void operator()(SwsContext* scaler) const { sws_freeContext(scaler); }
};
struct ReleaseMuxer {
  void operator()(AVFormatContext* muxer) const {
    avio_closep(&muxer->pb);
    avformat_free_context(muxer);
  }
};
using Encoder = std::unique_ptr<AVCodecContext, Release<AVCodecContext, avcodec_free_context>>;
using Frame = std::unique_ptr<AVFrame, Release<AVFrame, av_frame_free>>;
using Packet = std::unique_ptr<AVPacket, Release<AVPacket, av_packet_free>>;
using Scaler = std::unique_ptr<SwsContext, ReleaseScaler>;
using Muxer = std::unique_ptr<AVFormatContext, ReleaseMuxer>;

class Mp4Writer final : public VideoWriter {
 public:
  Mp4Writer(const std::filesystem::path& output, const VideoFormat& format)
      : format_(format), file_(output) {
    av_log_set_level(AV_LOG_QUIET);  // what went wrong is in our own message
    open_encoder();
    open_muxer();
    frame_.reset(av_frame_alloc());
    packet_.reset(av_packet_alloc());
    require(frame_ && packet_, "allocate a frame");
    frame_->format = AV_PIX_FMT_YUV420P;
    frame_->width = encoder_->width;
    frame_->height = encoder_->height;
    check(av_frame_get_buffer(frame_.get(), 0), "allocate a frame");
    scaler_.reset(sws_getContext(encoder_->width, encoder_->height, AV_PIX_FMT_RGB24,
                                 encoder_->width, encoder_->height, AV_PIX_FMT_YUV420P,
                                 SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, nullptr,
                                 nullptr, nullptr));
    require(scaler_ != nullptr, "convert colours");
    const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
    sws_setColorspaceDetails(scaler_.get(), bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16);
  }

  void write(const at::Tensor& frames) override {
    CHECK_SHAPE(frames, -1, format_.height, format_.width, 3);
    TORCH_CHECK(frames.scalar_type() == torch::kUInt8, "frames: expected uint8");
    const at::Tensor rows = frames.cpu().contiguous();
    for (int64_t i = 0; i < rows.size(0); ++i) {
      const uint8_t* pixels[] = {rows[i].const_data_ptr<uint8_t>()};
      const int stride[] = {3 * encoder_->width};
      check(av_frame_make_writable(frame_.get()), "reuse a frame");
      sws_scale(scaler_.get(), pixels, stride, 0, encoder_->height, frame_->data, frame_->linesize);
      frame_->pts = count_++;
      encode(frame_.get());
    }
  }

  void finish() override {
    encode(nullptr);
    check(av_write_trailer(muxer_.get()), "write the index");
    check(avio_closep(&muxer_->pb), "close the file");
    file_.commit();
  }

 private:
  void check(int result, const char* action) const {
    if (result < 0) {
      char reason[AV_ERROR_MAX_STRING_SIZE];
      av_strerror(result, reason, sizeof reason);
      throw RunError(file_.target().string() + ": cannot " + action + ": " + reason);
    }
  }
  void require(bool condition, const char* action) const {
    if (!condition) {
      throw RunError(file_.target().string() + ": cannot " + action);
    }
  }

  void open_encoder() {
    const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
    require(codec != nullptr, "encode H.264: this FFmpeg has no libx264; use .y4m or %04d.png");
    encoder_.reset(avcodec_alloc_context3(codec));
    require(encoder_ != nullptr, "allocate an encoder");
    const FrameRate rate = frame_rate(format_.fps);
    encoder_->width = static_cast<int>(format_.width);
    encoder_->height = static_cast<int>(format_.height);
    encoder_->framerate = {static_cast<int>(rate.numerator), static_cast<int>(rate.denominator)};
    encoder_->time_base = av_inv_q(encoder_->framerate);
    encoder_->pix_fmt = AV_PIX_FMT_YUV420P;
    encoder_->color_range = AVCOL_RANGE_MPEG;
    encoder_->colorspace = AVCOL_SPC_BT709;
    encoder_->color_primaries = AVCOL_PRI_BT709;
    encoder_->color_trc = AVCOL_TRC_BT709;
    encoder_->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;  // .mp4 keeps the headers outside the stream
    av_opt_set(encoder_->priv_data, "preset", "medium", 0);
    av_opt_set(encoder_->priv_data, "crf", "18", 0);
    check(avcodec_open2(encoder_.get(), codec, nullptr), "open the H.264 encoder");
  }

  void open_muxer() {
    // "file:" keeps a name with a colon from being read as a protocol.
    const std::string url = "file:" + file_.path().string();
    AVFormatContext* muxer = nullptr;
    check(avformat_alloc_output_context2(&muxer, nullptr, "mp4", url.c_str()), "open the file");
    muxer_.reset(muxer);
    stream_ = avformat_new_stream(muxer, nullptr);
    require(stream_ != nullptr, "add a stream");
    check(avcodec_parameters_from_context(stream_->codecpar, encoder_.get()),
          "describe the stream");
    stream_->time_base = encoder_->time_base;
    stream_->avg_frame_rate = encoder_->framerate;
    av_dict_set(&muxer->metadata, "comment", format_.comment.c_str(), 0);
    check(avio_open(&muxer->pb, url.c_str(), AVIO_FLAG_WRITE), "open the file");
    AVDictionary* options = nullptr;
    av_dict_set(&options, "movflags", "+faststart", 0);
    const int result = avformat_write_header(muxer, &options);
    av_dict_free(&options);
    check(result, "write the header");
  }

  // A null frame ends the stream.
  void encode(const AVFrame* frame) {
    check(avcodec_send_frame(encoder_.get(), frame), "encode a frame");
    while (true) {
      const int result = avcodec_receive_packet(encoder_.get(), packet_.get());
      if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) {
        return;
      }
      check(result, "encode a frame");
      packet_->duration = 1;
      av_packet_rescale_ts(packet_.get(), encoder_->time_base, stream_->time_base);
      packet_->stream_index = stream_->index;
      check(av_interleaved_write_frame(muxer_.get(), packet_.get()), "write a frame");
    }
  }

  VideoFormat format_;
  PendingFile file_;  // destroyed last: the muxer closes the file before it is removed
  Muxer muxer_;
  Encoder encoder_;
  AVStream* stream_ = nullptr;  // owned by the muxer
  Frame frame_;
  Packet packet_;
  Scaler scaler_;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<VideoWriter> open_mp4(const std::filesystem::path& output,
                                      const VideoFormat& format) {
  return std::make_unique<Mp4Writer>(output, format);
}

}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
