// Video files read back: .y4m and PNG exactly, .mp4 through FFmpeg's decoder.
#include "io/video.h"

#include <gtest/gtest.h>
#include <png.h>
#include <sys/stat.h>

#include <cmath>
#include <sstream>

#include "core/error.h"
#include "support/temporary_folder.h"

#ifdef OSPNEXT_FFMPEG
extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}
#endif

namespace ospnext {
namespace {

constexpr int64_t kFrames = 5, kHeight = 48, kWidth = 64;

// A smooth moving picture with all three channels at work, [n, H, W, 3] uint8.
at::Tensor moving_picture() {
  const at::Tensor t = torch::arange(kFrames).view({-1, 1, 1});
  const at::Tensor row = torch::arange(kHeight).view({1, -1, 1});
  const at::Tensor column = torch::arange(kWidth).view({1, 1, -1});
  const at::Tensor red = 128 + 100 * torch::sin((column + 3 * t) * 0.1) + 0 * row;
  const at::Tensor green = 128 + 100 * torch::sin((row - 2 * t) * 0.12) + 0 * column;
  const at::Tensor blue = 60 + 2.0 * column + 10.0 * t + 0 * row;
  return torch::stack({red, green, blue}, -1).clamp(0, 255).to(torch::kUInt8);
}

void write_video(const std::filesystem::path& file, const at::Tensor& frames, double fps = 16,
                 const std::string& comment = "") {
  const VideoFormat format{frames.size(2), frames.size(1), fps, comment};
  const auto writer = open_video(file, format);
  writer->write(frames.slice(0, 0, 1));  // as the decoder gives them: one, then several
  writer->write(frames.slice(0, 1));
  writer->finish();
}

std::string refusal(const std::filesystem::path& output) {
  try {
    check_video_output(output, "--output");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(VideoPixels, AreRoundedHalvesUpAndClamped) {
  const float step = 2.0f / 255;
  const at::Tensor row = torch::tensor(
      {-1.0f, 1.0f, 0.0f, -1 + 0.4f * step, -1 + 0.6f * step, 1 - 0.6f * step, -3.0f, 3.0f});
  const at::Tensor pixels = video_to_pixels(row.view({1, 1, 1, -1}).expand({3, 1, 1, 8}));
  ASSERT_EQ(pixels.sizes(), (at::IntArrayRef{1, 1, 8, 3}));
  const at::Tensor expected = torch::tensor({0, 255, 128, 0, 1, 254, 0, 255}, torch::kUInt8);
  EXPECT_TRUE(torch::equal(pixels[0][0].select(1, 0), expected));
}

TEST(FrameRate, KeepsWholeAndBroadcastRates) {
  const auto text = [](double fps) {
    const FrameRate rate = frame_rate(fps);
    return std::to_string(rate.numerator) + "/" + std::to_string(rate.denominator);
  };
  EXPECT_EQ(text(16), "16/1");
  EXPECT_EQ(text(23.976), "24000/1001");
  EXPECT_EQ(text(59.94), "60000/1001");
  EXPECT_EQ(text(12.5), "25/2");
}

TEST(PngFrames, ComeBackExactly) {
  const TemporaryFolder folder;
  const at::Tensor frames = moving_picture();
  write_video(folder / "f_%03d.png", frames);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"f_000.png", "f_001.png", "f_002.png",
                                                      "f_003.png", "f_004.png"}));
  for (int64_t i = 0; i < kFrames; ++i) {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    const auto file = numbered_file(folder / "f_%03d.png", i);
    ASSERT_NE(png_image_begin_read_from_file(&image, file.c_str()), 0) << file;
    image.format = PNG_FORMAT_RGB;
    at::Tensor pixels = torch::empty({image.height, image.width, 3}, torch::kUInt8);
    ASSERT_NE(png_image_finish_read(&image, nullptr, pixels.data_ptr<uint8_t>(), 0, nullptr), 0);
    EXPECT_TRUE(torch::equal(pixels, frames[i])) << i;
  }
}

// One pixel by the definition of BT.601 in limited range, written out for this test.
double bt601(int plane, double red, double green, double blue) {
  const double luma = 0.299 * red + 0.587 * green + 0.114 * blue;
  switch (plane) {
    case 0:
      return 16 + 219 * luma / 255;
    case 1:
      return 128 + 224 * (blue - luma) / 1.772 / 255;
    default:
      return 128 + 224 * (red - luma) / 1.402 / 255;
  }
}

TEST(Y4m, HoldsTheDefinedPlanes) {
  const TemporaryFolder folder;
  const at::Tensor frames = moving_picture();
  write_video(folder / "clip.y4m", frames, 23.976);
  std::istringstream file(file_text(folder / "clip.y4m"));
  std::string line;
  std::getline(file, line);
  EXPECT_EQ(line.substr(0, 42), "YUV4MPEG2 W64 H48 F24000:1001 Ip A1:1 C420");
  const at::Tensor rgb = frames.to(torch::kFloat64);
  double worst = 0;
  for (int64_t i = 0; i < kFrames; ++i) {
    std::getline(file, line);
    ASSERT_EQ(line, "FRAME");
    for (int plane = 0; plane < 3; ++plane) {
      const int64_t step = plane == 0 ? 1 : 2;
      for (int64_t y = 0; y < kHeight; y += step) {
        for (int64_t x = 0; x < kWidth; x += step) {
          const at::Tensor mean =
              rgb[i].slice(0, y, y + step).slice(1, x, x + step).mean(at::IntArrayRef({0, 1}));
          const double* c = mean.const_data_ptr<double>();
          worst = std::max(worst, std::abs(file.get() - bt601(plane, c[0], c[1], c[2])));
        }
      }
    }
  }
  EXPECT_LE(worst, 0.5 + 1e-3);  // the nearest whole number everywhere
  EXPECT_EQ(file.get(), EOF);
}

TEST(VideoWriter, LeavesNothingWhenItIsNotFinished) {
  const TemporaryFolder folder;
  for (const char* name : {"clip.mp4", "clip.y4m", "%04d.png"}) {
#ifndef OSPNEXT_FFMPEG
    if (std::string(name) == "clip.mp4") {
      continue;
    }
#endif
    auto writer = open_video(folder / name, {kWidth, kHeight, 16, ""});
    writer->write(moving_picture());
    EXPECT_EQ(folder.names().size(), 1u) << name << ": one temporary";
    writer.reset();
    EXPECT_TRUE(folder.names().empty()) << name;
  }
}

TEST(VideoWriter, KeepsAnOlderFileUntilItIsFinished) {
  const TemporaryFolder folder;
  write_file(folder / "clip.y4m", "old");
  auto writer = open_video(folder / "clip.y4m", {kWidth, kHeight, 16, ""});
  writer->write(moving_picture());
  EXPECT_EQ(file_text(folder / "clip.y4m"), "old");
  writer->finish();
  EXPECT_NE(file_text(folder / "clip.y4m"), "old");
}

TEST(VideoWriter, RefusesFramesOfAnotherSize) {
  const TemporaryFolder folder;
  const auto writer = open_video(folder / "clip.y4m", {kWidth, kHeight + 2, 16, ""});
  EXPECT_THROW(writer->write(moving_picture()), c10::Error);
}

TEST(VideoOutput, RefusesNamesOfNoFormatAndPlacesThatTakeNoFile) {
  const TemporaryFolder folder;
  for (const char* name : {"clip.avi", "clip", "frame.png", "%d_%d.png", "%x.png", "%5d.png"}) {
    EXPECT_NE(refusal(folder / name).find("expected a name ending in .mp4"), std::string::npos)
        << name;
  }
  EXPECT_NE(refusal(folder / "no/clip.y4m").find("there is no folder"), std::string::npos);
  std::filesystem::create_directory(folder / "d.y4m");
  EXPECT_NE(refusal(folder / "d.y4m").find("is a folder"), std::string::npos);
  EXPECT_NE(refusal("/proc/clip.y4m"), "");
  EXPECT_EQ(refusal(folder / "%d.png"), "");
  EXPECT_EQ(refusal(folder / "clip.y4m"), "");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"d.y4m"});
}

#ifdef OSPNEXT_FFMPEG

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
        const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
        sws_setColorspaceDetails(scaler, bt709, 0, bt709, 1, 0, 1 << 16, 1 << 16);
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
  const at::Tensor error =
      (video.frames.to(torch::kFloat32) - frames.to(torch::kFloat32)).pow(2).mean();
  // Chroma of half resolution and crf 18: 38 dB on this picture; channels exchanged or another matrix
  // give under 25.
  EXPECT_GT(10 * std::log10(255 * 255 / error.item<double>()), 35);
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

TEST(Mp4, RefusesOddSides) {
  const TemporaryFolder folder;
  EXPECT_THROW(open_video(folder / "clip.mp4", {63, 48, 16, ""}), InputError);
  EXPECT_TRUE(folder.names().empty());
}

#endif

}  // namespace
}  // namespace ospnext
