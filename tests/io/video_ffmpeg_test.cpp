// Videos written and read through FFmpeg.
#ifdef OSPNEXT_FFMPEG

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>

#include "core/error.h"
#include "io/moving_picture.h"
#include "io/video_writers.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}

namespace ospnext {
namespace {

struct DecodedVideo {
  at::Tensor frames;  // [n, H, W, 3] uint8
  AVRational rate{};
  AVPixelFormat pixel_format = AV_PIX_FMT_NONE;
  AVColorSpace colorspace = AVCOL_SPC_UNSPECIFIED;
  AVColorRange range = AVCOL_RANGE_UNSPECIFIED;
  std::string codec, comment;
  double seconds = 0;
};

DecodedVideo decode(const std::filesystem::path& file) {
  DecodedVideo video;
  AVFormatContext* demuxer = nullptr;
  EXPECT_EQ(avformat_open_input(&demuxer, file.c_str(), nullptr, nullptr), 0);
  EXPECT_GE(avformat_find_stream_info(demuxer, nullptr), 0);
  const AVStream* stream = demuxer->streams[0];
  const AVCodec* codec = avcodec_find_decoder(stream->codecpar->codec_id);
  AVCodecContext* decoder = avcodec_alloc_context3(codec);
  avcodec_parameters_to_context(decoder, stream->codecpar);
  EXPECT_EQ(avcodec_open2(decoder, codec, nullptr), 0);
  video.rate = stream->avg_frame_rate;
  video.codec = avcodec_get_name(stream->codecpar->codec_id);
  video.seconds = static_cast<double>(demuxer->duration) / AV_TIME_BASE;
  if (const auto* entry = av_dict_get(demuxer->metadata, "comment", nullptr, 0)) {
    video.comment = entry->value;
  }
  AVPacket* packet = av_packet_alloc();
  AVFrame* frame = av_frame_alloc();
  std::vector<at::Tensor> frames;
  SwsContext* scaler = nullptr;
  const auto receive = [&] {
    while (avcodec_receive_frame(decoder, frame) == 0) {
      video.pixel_format = static_cast<AVPixelFormat>(frame->format);
      video.colorspace = frame->colorspace;
      video.range = frame->color_range;
      if (scaler == nullptr) {
        scaler = sws_getContext(frame->width, frame->height, video.pixel_format, frame->width,
                                frame->height, AV_PIX_FMT_RGB24, SWS_BICUBIC | SWS_ACCURATE_RND,
                                nullptr, nullptr, nullptr);
        // WebP is defined by BT.601.
        const bool is_webp = stream->codecpar->codec_id == AV_CODEC_ID_WEBP;
        const int* matrix = sws_getCoefficients(is_webp ? SWS_CS_ITU601 : SWS_CS_ITU709);
        sws_setColorspaceDetails(scaler, matrix, 0, matrix, 1, 0, 1 << 16, 1 << 16);
      }
      at::Tensor pixels = torch::empty({frame->height, frame->width, 3}, torch::kUInt8);
      uint8_t* data[] = {pixels.data_ptr<uint8_t>()};
      const int stride[] = {3 * frame->width};
      sws_scale(scaler, frame->data, frame->linesize, 0, frame->height, data, stride);
      frames.push_back(pixels);
    }
  };
  while (av_read_frame(demuxer, packet) >= 0) {
    avcodec_send_packet(decoder, packet);
    av_packet_unref(packet);
    receive();
  }
  avcodec_send_packet(decoder, nullptr);
  receive();
  video.frames = torch::stack(frames);
  sws_freeContext(scaler);
  av_frame_free(&frame);
  av_packet_free(&packet);
  avcodec_free_context(&decoder);
  avformat_close_input(&demuxer);
  return video;
}

// PSNR in decibels. Swapped channels or another colour matrix give less than 25.
double psnr(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor error =
      (actual.to(torch::kFloat32) - expected.to(torch::kFloat32)).pow(2).mean();
  return 10 * std::log10(255 * 255 / error.item<double>());
}

TEST(Mp4, PlaysBackWhatWasWritten) {
  const TemporaryFolder folder;
  const at::Tensor frames = moving_picture();
  write_video(folder / "a:b.mp4", frames, 16, "{\"seed\": 7}");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a:b.mp4"});
  const DecodedVideo video = decode("file:" + (folder / "a:b.mp4").string());
  EXPECT_EQ(video.codec, "h264");
  EXPECT_EQ(video.pixel_format, AV_PIX_FMT_YUV420P);
  EXPECT_EQ(video.colorspace, AVCOL_SPC_BT709);
  EXPECT_EQ(video.range, AVCOL_RANGE_MPEG);
  EXPECT_EQ(video.rate.num, 16 * video.rate.den);
  EXPECT_NEAR(video.seconds, kFrames / 16.0, 1e-3);
  EXPECT_EQ(video.comment, "{\"seed\": 7}");
  ASSERT_EQ(video.frames.sizes(), frames.sizes());
  EXPECT_GT(psnr(video.frames, frames), 35);  // chroma of half resolution and crf 18
}

TEST(Mp4, PutsTheIndexInFront) {
  const TemporaryFolder folder;
  write_video(folder / "clip.mp4", moving_picture());
  const std::string bytes = file_text(folder / "clip.mp4");
  EXPECT_LT(bytes.find("moov"), bytes.find("mdat"));
}

TEST(Mp4, IsReadableByOthersAsTheUmaskSays) {
  const TemporaryFolder folder;
  const mode_t mask = ::umask(022);
  write_video(folder / "clip.mp4", moving_picture());
  ::umask(mask);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "clip.mp4").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644u);
}

TEST(Webm, PlaysBackWhatWasWritten) {
  const TemporaryFolder folder;
  const at::Tensor frames = moving_picture();
  write_video(folder / "clip.webm", frames, 23.976);
  const DecodedVideo video = decode(folder / "clip.webm");
  EXPECT_EQ(video.codec, "vp9");
  EXPECT_EQ(video.pixel_format, AV_PIX_FMT_YUV420P);
  EXPECT_EQ(video.colorspace, AVCOL_SPC_BT709);
  EXPECT_EQ(video.range, AVCOL_RANGE_MPEG);
  EXPECT_NEAR(av_q2d(video.rate), 23.976, 0.01);
  ASSERT_EQ(video.frames.sizes(), frames.sizes());
  EXPECT_GT(psnr(video.frames, frames), 33);
}

TEST(Gif, PlaysBackWhatWasWritten) {
  const TemporaryFolder folder;
  const at::Tensor frames = moving_picture();
  write_video(folder / "clip.gif", frames, 16);
  const DecodedVideo video = decode(folder / "clip.gif");
  EXPECT_EQ(video.codec, "gif");
  EXPECT_NEAR(video.seconds, kFrames / 16.0, 0.02);  // hundredths of a second
  ASSERT_EQ(video.frames.sizes(), frames.sizes());
  EXPECT_GT(psnr(video.frames, frames), 30);
  // Loops endlessly.
  EXPECT_NE(file_text(folder / "clip.gif").find("NETSCAPE2.0"), std::string::npos);
}

TEST(Gif, ShowsFewColoursExactly) {
  const TemporaryFolder folder;
  const at::Tensor colours =
      torch::tensor({{200, 30, 60}, {16, 16, 16}, {250, 250, 200}}, torch::kUInt8);
  const at::Tensor which = torch::randint(0, 3, {4, 20, 30}, torch::kInt64);
  const at::Tensor frames = colours.index_select(0, which.flatten()).view({4, 20, 30, 3});
  write_video(folder / "clip.gif", frames, 16);
  EXPECT_TRUE(torch::equal(decode(folder / "clip.gif").frames, frames));
}

// FFmpeg reads only single WebP images. This writes each frame of an animation to its own file and
// returns the files with their times in milliseconds.
std::vector<std::pair<std::string, int>> webp_frames(const std::string& file) {
  const auto number = [&](size_t at, int bytes) {
    size_t value = 0;
    for (int i = bytes; i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(file[at + static_cast<size_t>(i)]);
    }
    return value;
  };
  EXPECT_EQ(number(4, 4) + 8, file.size());
  std::vector<std::pair<std::string, int>> frames;
  for (size_t at = 12; at < file.size(); at += 8 + (number(at + 4, 4) + 1) / 2 * 2) {
    if (file.compare(at, 4, "ANMF") == 0) {
      std::string image = file.substr(at + 8 + 16, number(at + 4, 4) - 16);
      std::string size = file.substr(at + 4, 4);
      const size_t whole = image.size() + 4;
      for (size_t i = 0; i < 4; ++i) {
        size[i] = static_cast<char>(whole >> (8 * i) & 0xff);
      }
      frames.emplace_back("RIFF" + size + "WEBP" + image, static_cast<int>(number(at + 8 + 12, 3)));
    }
  }
  return frames;
}

TEST(Webp, HoldsEveryFrameAndItsTime) {
  const TemporaryFolder folder;
  const at::Tensor frames = moving_picture();
  write_video(folder / "clip.webp", frames, 16, "a comment");
  const auto found = webp_frames(file_text(folder / "clip.webp"));
  ASSERT_EQ(found.size(), static_cast<size_t>(kFrames));
  int milliseconds = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    write_file(folder / "frame.webp", found[i].first);
    const DecodedVideo video = decode(folder / "frame.webp");
    EXPECT_GT(psnr(video.frames[0], frames[static_cast<int64_t>(i)]), 30) << i;
    milliseconds += found[i].second;
  }
  EXPECT_NEAR(milliseconds, kFrames * 1000 / 16, 1);
}

TEST(Encoder, ThatIsMissingIsRefusedInOneSentence) {
  try {
    check_encoder("libnonesuch", "`output` a.webm: ");
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what())
                  .find("`output` a.webm: the installed FFmpeg has no encoder libnonesuch"),
              0u);
  }
  EXPECT_NO_THROW(check_encoder("libx264", ""));
}

}  // namespace
}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
