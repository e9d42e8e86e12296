#ifdef OSPNEXT_FFMPEG

#include "io/ffmpeg.h"

extern "C" {
#include <libavutil/error.h>
#include <libavutil/opt.h>
}

#include <algorithm>

#include "core/error.h"
#include "io/video_writers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

void require(bool condition, const fs::path& target, const char* action) {
  if (!condition) {
    throw RunError(target.string() + ": cannot " + action);
  }
}

void set_colours(AVCodecContext& encoder) {
  if (encoder.pix_fmt == AV_PIX_FMT_YUV420P) {
    encoder.color_range = AVCOL_RANGE_MPEG;
    encoder.colorspace = AVCOL_SPC_BT709;
    encoder.color_primaries = AVCOL_PRI_BT709;
    encoder.color_trc = AVCOL_TRC_BT709;
  }
}

}  // namespace

void check_ffmpeg(int result, const fs::path& target, const char* action) {
  if (result < 0) {
    char reason[AV_ERROR_MAX_STRING_SIZE];
    av_strerror(result, reason, sizeof reason);
    throw RunError(target.string() + ": cannot " + action + ": " + reason);
  }
}

void check_encoder(const std::string& name, const std::string& what) {
  if (avcodec_find_encoder_by_name(name.c_str()) == nullptr) {
    throw InputError(what + "the installed FFmpeg has no encoder " + name +
                     "; use another format, such as .y4m or %04d.png");
  }
}

FrameEncoder::FrameEncoder(const EncoderSettings& settings, const VideoFormat& format,
                           fs::path target, PacketSink sink)
    : target_(std::move(target)), sink_(std::move(sink)) {
  av_log_set_level(AV_LOG_QUIET);  // our own messages report failures
  const AVCodec* codec = avcodec_find_encoder_by_name(settings.name);
  require(codec != nullptr, target_, "find the encoder");
  encoder_.reset(avcodec_alloc_context3(codec));
  frame_.reset(av_frame_alloc());
  packet_.reset(av_packet_alloc());
  require(encoder_ && frame_ && packet_, target_, "allocate an encoder");
  const FrameRate rate = frame_rate(format.fps);
  encoder_->width = static_cast<int>(format.width);
  encoder_->height = static_cast<int>(format.height);
  encoder_->framerate = {static_cast<int>(rate.numerator), static_cast<int>(rate.denominator)};
  encoder_->time_base = av_inv_q(encoder_->framerate);
  encoder_->pix_fmt = settings.pixels;
  set_colours(*encoder_);
  if (settings.global_header) {
    encoder_->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  }
  for (const auto& [name, value] : settings.options) {
    check_ffmpeg(av_opt_set(encoder_.get(), name, value, AV_OPT_SEARCH_CHILDREN), target_,
                 "set an option of the encoder");
  }
  check_ffmpeg(avcodec_open2(encoder_.get(), codec, nullptr), target_, "open the encoder");
  frame_->format = encoder_->pix_fmt;
  frame_->width = encoder_->width;
  frame_->height = encoder_->height;
  check_ffmpeg(av_frame_get_buffer(frame_.get(), 0), target_, "allocate a frame");
  if (encoder_->pix_fmt != AV_PIX_FMT_PAL8) {
    make_scaler();
  }
}

void FrameEncoder::make_scaler() {
  scaler_.reset(sws_getContext(encoder_->width, encoder_->height, AV_PIX_FMT_RGB24, encoder_->width,
                               encoder_->height, encoder_->pix_fmt,
                               SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, nullptr,
                               nullptr, nullptr));
  require(scaler_ != nullptr, target_, "convert colours");
  if (encoder_->pix_fmt == AV_PIX_FMT_YUV420P) {
    const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
    sws_setColorspaceDetails(scaler_.get(), bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16);
  }
}

AVFrame& FrameEncoder::next_frame() {
  check_ffmpeg(av_frame_make_writable(frame_.get()), target_, "reuse a frame");
  frame_->pts = count_++;
  return *frame_;
}

void FrameEncoder::encode(const at::Tensor& rgb) {
  AVFrame& frame = next_frame();
  const uint8_t* pixels[] = {rgb.const_data_ptr<uint8_t>()};
  const int stride[] = {3 * encoder_->width};
  sws_scale(scaler_.get(), pixels, stride, 0, encoder_->height, frame.data, frame.linesize);
  send(&frame);
}

void FrameEncoder::encode(const at::Tensor& indices, const std::vector<uint32_t>& palette) {
  AVFrame& frame = next_frame();
  const int64_t width = indices.size(1);
  const auto* rows = indices.const_data_ptr<uint8_t>();
  for (int64_t row = 0; row < indices.size(0); ++row) {
    std::copy_n(rows + row * width, width, frame.data[0] + row * frame.linesize[0]);
  }
  std::copy(palette.begin(), palette.end(), reinterpret_cast<uint32_t*>(frame.data[1]));
  send(&frame);
}

void FrameEncoder::send(const AVFrame* frame) {
  check_ffmpeg(avcodec_send_frame(encoder_.get(), frame), target_, "encode a frame");
  while (true) {
    const int result = avcodec_receive_packet(encoder_.get(), packet_.get());
    if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) {
      return;
    }
    check_ffmpeg(result, target_, "encode a frame");
    packet_->duration = 1;
    sink_(*packet_);
    av_packet_unref(packet_.get());
  }
}

FileMuxer::FileMuxer(const char* format, const fs::path& file, fs::path target,
                     const AVCodecContext& encoder, const std::string& comment,
                     const FfmpegOptions& options)
    : target_(std::move(target)), time_base_(encoder.time_base) {
  // Without "file:", a colon would end a protocol name.
  const std::string url = "file:" + file.string();
  AVFormatContext* muxer = nullptr;
  check_ffmpeg(avformat_alloc_output_context2(&muxer, nullptr, format, url.c_str()), target_,
               "open the file");
  muxer_.reset(muxer);
  muxer->flags |= AVFMT_FLAG_BITEXACT;  // no random numbers, so equal frames give an equal file
  stream_ = avformat_new_stream(muxer, nullptr);
  require(stream_ != nullptr, target_, "add a stream");
  check_ffmpeg(avcodec_parameters_from_context(stream_->codecpar, &encoder), target_,
               "describe the stream");
  stream_->time_base = encoder.time_base;
  stream_->avg_frame_rate = encoder.framerate;
  if (!comment.empty()) {
    av_dict_set(&muxer->metadata, "comment", comment.c_str(), 0);
  }
  check_ffmpeg(avio_open(&muxer->pb, url.c_str(), AVIO_FLAG_WRITE), target_, "open the file");
  AVDictionary* dictionary = nullptr;
  for (const auto& [name, value] : options) {
    av_dict_set(&dictionary, name, value, 0);
  }
  const int result = avformat_write_header(muxer, &dictionary);
  av_dict_free(&dictionary);
  check_ffmpeg(result, target_, "write");
}

void FileMuxer::write(AVPacket& packet) {
  av_packet_rescale_ts(&packet, time_base_, stream_->time_base);
  packet.stream_index = stream_->index;
  check_ffmpeg(av_interleaved_write_frame(muxer_.get(), &packet), target_, "write");
}

void FileMuxer::finish() {
  check_ffmpeg(av_write_trailer(muxer_.get()), target_, "write");
  check_ffmpeg(avio_closep(&muxer_->pb), target_, "write");
}

}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
