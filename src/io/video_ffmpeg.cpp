// Reads the first video of a file by FFmpeg's libraries.
#ifdef OSPNEXT_FFMPEG

extern "C" {
#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
}

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "io/ffmpeg.h"
#include "io/readers/frame_size.h"
#include "io/video_readers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

struct DemuxerRelease {
  void operator()(AVFormatContext* demuxer) const { avformat_close_input(&demuxer); }
};

// Containers that hold a video themselves. Playlists and devices are not among them.
constexpr const char* kContainers =
    "mov,mp4,matroska,webm,gif,avi,mpegts,mpeg,flv,ogg,asf,ivf,webp_pipe";

// Throws InputError "FILE: cannot be read as a video: reason".
void require(int result, const fs::path& file) {
  if (result < 0) {
    char reason[AV_ERROR_MAX_STRING_SIZE];
    av_strerror(result, reason, sizeof reason);
    throw InputError(file.string() + ": cannot be read as a video: " + reason);
  }
}

const int32_t* display_matrix(const AVStream& stream) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
  const AVPacketSideData* data =
      av_packet_side_data_get(stream.codecpar->coded_side_data, stream.codecpar->nb_coded_side_data,
                              AV_PKT_DATA_DISPLAYMATRIX);
  const bool is_whole = data != nullptr && data->size >= 9 * sizeof(int32_t);
  return is_whole ? reinterpret_cast<const int32_t*>(data->data) : nullptr;
#else
  size_t size = 0;
  const uint8_t* data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return data != nullptr && size >= 9 * sizeof(int32_t) ? reinterpret_cast<const int32_t*>(data)
                                                        : nullptr;
#endif
}

// Counterclockwise quarter turns that show the frames as the file's metadata ask.
int64_t quarter_turns(const AVStream& stream, const fs::path& file) {
  const int32_t* matrix = display_matrix(stream);
  if (matrix == nullptr) {
    return 0;
  }
  const double degrees = av_display_rotation_get(matrix);
  const double turns = std::nearbyint(degrees / 90);
  const auto product = [&](int a, int b) {
    return static_cast<double>(matrix[a]) * static_cast<double>(matrix[b]);
  };
  const bool is_mirrored = product(0, 4) - product(1, 3) < 0;
  if (!(std::abs(degrees - 90 * turns) < 1) || is_mirrored) {
    throw InputError(file.string() +
                     ": is mirrored, or turned by other than 90, 180 or 270 degrees");
  }
  return static_cast<int64_t>(turns);
}

// Throws InputError for a GIF without its last byte, which FFmpeg does not miss.
void check_gif_end(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  char start[3] = {};
  in.read(start, sizeof start);
  if (std::string_view(start, sizeof start) == "GIF") {
    in.seekg(-1, std::ios::end);
    const int last = in.get();
    if (last != ';' && last != 0) {  // some writers put zeros behind it
      throw InputError(file.string() + ": the file is cut off");
    }
  }
}

bool is_interlaced(const AVFrame& frame) {
#ifdef AV_FRAME_FLAG_INTERLACED
  return (frame.flags & AV_FRAME_FLAG_INTERLACED) != 0;
#else
  return frame.interlaced_frame != 0;
#endif
}

class FfmpegReader final : public VideoReader {
 public:
  explicit FfmpegReader(fs::path file);

  double fps() const override {
    return stream_->avg_frame_rate.den == 0 ? 0 : av_q2d(stream_->avg_frame_rate);
  }
  std::optional<VideoFrame> next() override;

 private:
  void open_decoder(const AVCodec* codec);
  void send_packet();
  double seconds_of_frame();
  void check_frame();
  void check_length() const;
  int matrix() const;
  void make_scaler();
  at::Tensor pixels();
  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError(file_.string() + ": " + what);
  }
  [[noreturn]] void refuse_frame(const std::string& what) const {
    refuse("frame " + std::to_string(count_) + ": " + what);
  }

  fs::path file_;
  std::unique_ptr<AVFormatContext, DemuxerRelease> demuxer_;
  AVStream* stream_ = nullptr;  // owned by the demuxer
  std::unique_ptr<AVCodecContext, FfmpegRelease<AVCodecContext, avcodec_free_context>> decoder_;
  std::unique_ptr<AVFrame, FfmpegRelease<AVFrame, av_frame_free>> frame_, rgb_;
  std::unique_ptr<AVPacket, FfmpegRelease<AVPacket, av_packet_free>> packet_;
  std::unique_ptr<SwsContext, FfmpegScalerRelease> scaler_;
  int scaled_format_ = AV_PIX_FMT_NONE;
  int64_t turns_ = 0;  // quarters, counterclockwise
  int width_ = 0, height_ = 0;
  double first_time_ = 0, last_time_ = 0;  // seconds
  int64_t count_ = 0;
};

FfmpegReader::FfmpegReader(fs::path file) : file_(std::move(file)) {
  av_log_set_level(AV_LOG_QUIET);  // our own messages report failures
  AVDictionary* options = nullptr;
  av_dict_set(&options, "protocol_whitelist", "file", 0);
  av_dict_set(&options, "format_whitelist", kContainers, 0);
  AVFormatContext* demuxer = nullptr;
  const std::string url = "file:" + file_.string();
  const int opened = avformat_open_input(&demuxer, url.c_str(), nullptr, &options);
  av_dict_free(&options);
  require(opened, file_);
  demuxer_.reset(demuxer);
  require(avformat_find_stream_info(demuxer, nullptr), file_);
  const AVCodec* codec = nullptr;
  const int index = av_find_best_stream(demuxer, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
  if (index == AVERROR_STREAM_NOT_FOUND) {
    refuse("has no video");
  }
  require(index, file_);
  stream_ = demuxer->streams[index];
  for (unsigned i = 0; i < demuxer->nb_streams; ++i) {
    demuxer->streams[i]->discard =
        demuxer->streams[i] == stream_ ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
  }
  turns_ = quarter_turns(*stream_, file_);
  open_decoder(codec);
}

void FfmpegReader::open_decoder(const AVCodec* codec) {
  constexpr int kThreads = 4;
  decoder_.reset(avcodec_alloc_context3(codec));
  frame_.reset(av_frame_alloc());
  rgb_.reset(av_frame_alloc());
  packet_.reset(av_packet_alloc());
  if (!decoder_ || !frame_ || !rgb_ || !packet_) {
    throw RunError(file_.string() + ": cannot allocate a decoder");
  }
  require(avcodec_parameters_to_context(decoder_.get(), stream_->codecpar), file_);
  if (decoder_->width == 0 || decoder_->height == 0) {  // such as an animated WebP
    refuse("has a video of a kind that this FFmpeg cannot read");
  }
  check_frame_size(decoder_->width, decoder_->height, file_.string());
  decoder_->max_pixels = kMostPixels;
  decoder_->thread_count = kThreads;
  decoder_->pkt_timebase = stream_->time_base;
  require(avcodec_open2(decoder_.get(), codec, nullptr), file_);
}

// Gives the decoder the next packet of the stream, or the end.
void FfmpegReader::send_packet() {
  int result = 0;
  do {
    av_packet_unref(packet_.get());
    result = av_read_frame(demuxer_.get(), packet_.get());
  } while (result >= 0 && packet_->stream_index != stream_->index);
  const bool has_ended = result == AVERROR_EOF;
  const bool is_cut = has_ended && demuxer_->pb != nullptr && demuxer_->pb->error < 0;
  if ((result < 0 && !has_ended) || is_cut || (packet_->flags & AV_PKT_FLAG_CORRUPT) != 0) {
    refuse_frame("the file is damaged or cut off");
  }
  if (avcodec_send_packet(decoder_.get(), has_ended ? nullptr : packet_.get()) < 0) {
    refuse_frame("the file is damaged");
  }
}

std::optional<VideoFrame> FfmpegReader::next() {
  int result = 0;
  while ((result = avcodec_receive_frame(decoder_.get(), frame_.get())) == AVERROR(EAGAIN)) {
    send_packet();
  }
  if (result == AVERROR_EOF) {
    check_length();
    return std::nullopt;
  }
  const bool is_damaged =
      result < 0 || frame_->decode_error_flags != 0 || (frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0;
  if (is_damaged) {
    refuse_frame("the file is damaged");
  }
  check_frame();
  last_time_ = seconds_of_frame();
  VideoFrame frame{.pixels = pixels(), .seconds = last_time_};
  ++count_;
  return frame;
}

double FfmpegReader::seconds_of_frame() {
  const int64_t stamp = frame_->best_effort_timestamp;
  if (stamp == AV_NOPTS_VALUE && fps() <= 0) {
    refuse("states neither the times of its frames nor a frame rate");
  }
  const double time = stamp == AV_NOPTS_VALUE
                          ? first_time_ + last_time_ + (count_ == 0 ? 0 : 1 / fps())
                          : static_cast<double>(stamp) * av_q2d(stream_->time_base);
  if (count_ == 0) {
    first_time_ = time;
  } else if (time - first_time_ <= last_time_) {
    refuse_frame("is not later than the one before it");
  }
  return time - first_time_;
}

void FfmpegReader::check_frame() {
  if (count_ == 0) {
    width_ = frame_->width;
    height_ = frame_->height;
    check_frame_size(width_, height_, file_.string());
  } else if (frame_->width != width_ || frame_->height != height_) {
    refuse_frame("is " + std::to_string(frame_->width) + "x" + std::to_string(frame_->height) +
                 ", the first one " + std::to_string(width_) + "x" + std::to_string(height_));
  }
  if (is_interlaced(*frame_)) {
    refuse("is interlaced, expected whole frames: deinterlace it first");
  }
  if (frame_->color_trc == AVCOL_TRC_SMPTE2084 || frame_->color_trc == AVCOL_TRC_ARIB_STD_B67) {
    refuse("is an HDR video: convert it to BT.709 first");
  }
  const AVRational aspect = av_guess_sample_aspect_ratio(demuxer_.get(), stream_, frame_.get());
  if (aspect.num > 0 && aspect.den > 0 && std::abs(av_q2d(aspect) - 1) > 0.02) {
    refuse("has pixels of aspect " + std::to_string(aspect.num) + ":" + std::to_string(aspect.den) +
           ", expected square ones: scale it first");
  }
}

// A container with one stream says how long that is. A file whose end is missing shows it here if
// its container allows reading without the end, as .webm does.
void FfmpegReader::check_length() const {
  constexpr double kSlack = 0.5;  // seconds; the last frame's own duration, and rounding
  const bool is_stated = demuxer_->nb_streams == 1 && demuxer_->duration != AV_NOPTS_VALUE &&
                         demuxer_->duration_estimation_method != AVFMT_DURATION_FROM_BITRATE;
  const double stated = static_cast<double>(demuxer_->duration) / AV_TIME_BASE;
  const double frame = fps() > 0 ? 1 / fps() : 0;
  if (is_stated && last_time_ + frame + kSlack < stated) {
    refuse("ends after " + std::to_string(last_time_ + frame) + " of " + std::to_string(stated) +
           " seconds: the file is cut off");
  }
}

// The matrix by which the frame's colours are made, as swscale numbers it.
int FfmpegReader::matrix() const {
  constexpr int kRowsOfStandardDefinition = 576;
  const bool is_still = stream_->codecpar->codec_id == AV_CODEC_ID_WEBP;  // always BT.601
  if (is_still || (frame_->colorspace == AVCOL_SPC_UNSPECIFIED &&
                   frame_->height <= kRowsOfStandardDefinition)) {
    return SWS_CS_ITU601;
  }
  return frame_->colorspace == AVCOL_SPC_UNSPECIFIED ? SWS_CS_ITU709 : frame_->colorspace;
}

void FfmpegReader::make_scaler() {
  const auto format = static_cast<AVPixelFormat>(frame_->format);
  scaler_.reset(sws_getContext(
      width_, height_, format, width_, height_, AV_PIX_FMT_RGB24,
      SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT,
      nullptr, nullptr, nullptr));
  if (!scaler_) {
    const char* name = av_get_pix_fmt_name(format);
    refuse(std::string("has pixels of a format that cannot be converted: ") +
           (name == nullptr ? "unknown" : name));
  }
  const int* coefficients = sws_getCoefficients(matrix());
  const bool full = frame_->color_range == AVCOL_RANGE_JPEG || format == AV_PIX_FMT_YUVJ420P ||
                    format == AV_PIX_FMT_YUVJ422P || format == AV_PIX_FMT_YUVJ444P;
  // for RGB it changes nothing and may fail
  sws_setColorspaceDetails(scaler_.get(), coefficients, full ? 1 : 0, coefficients, 1, 0, 1 << 16,
                           1 << 16);
  scaled_format_ = frame_->format;
}

// The decoded frame, [H, W, 3] uint8.
at::Tensor FfmpegReader::pixels() {
  if (frame_->format != scaled_format_) {
    make_scaler();
  }
  if (rgb_->data[0] == nullptr) {  // rows with room behind them, which swscale writes to
    rgb_->format = AV_PIX_FMT_RGB24;
    rgb_->width = width_;
    rgb_->height = height_;
    require(av_frame_get_buffer(rgb_.get(), 0), file_);
  }
  require(sws_scale(scaler_.get(), frame_->data, frame_->linesize, 0, height_, rgb_->data,
                    rgb_->linesize),
          file_);
  const at::Tensor upright =
      at::from_blob(rgb_->data[0], {height_, width_, 3}, {rgb_->linesize[0], 3, 1}, at::kByte);
  return at::rot90(upright, turns_, {0, 1}).clone(at::MemoryFormat::Contiguous);
}

}  // namespace

std::unique_ptr<VideoReader> read_with_ffmpeg(const fs::path& file) {
  check_gif_end(file);
  return std::make_unique<FfmpegReader>(file);
}

}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
