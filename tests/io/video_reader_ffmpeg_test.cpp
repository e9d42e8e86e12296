// Videos read by FFmpeg's libraries.
#ifdef OSPNEXT_FFMPEG

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "io/moving_picture.h"
#include "io/video_reader.h"
#include "io/weights.h"
#include "support/paths.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

at::Tensor all_frames(const fs::path& file) {
  return read_frames(file, {}, 1000);
}

// PSNR in decibels. A wrong order, place or colour matrix gives less than 25.
double psnr(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor error = (actual.to(at::kFloat) - expected.to(at::kFloat)).pow(2).mean();
  return 10 * std::log10(255 * 255 / error.item<double>());
}

// Frames that differ enough to see each of them in its place, [n, H, W, 3] uint8.
at::Tensor numbered_frames(int64_t count) {
  at::Tensor frames = at::full({count, 48, 64, 3}, 40, at::kByte);
  for (int64_t i = 0; i < count; ++i) {
    frames[i].slice(0, 8, 40).slice(1, 3 * i, 3 * i + 10).fill_(220);
  }
  return frames;
}

std::string refusal(const fs::path& file) {
  try {
    all_frames(file);
  } catch (const InputError& error) {
    const std::string what = error.what();
    EXPECT_TRUE(what.starts_with(file.string() + ": ")) << what;
    EXPECT_EQ(what.find('\n'), what.npos);
    return what;
  }
  return "";
}

TEST(FfmpegReader, ReadsFramesInTheOrderInWhichTheyAreShown) {
  const TemporaryFolder folder;
  const at::Tensor frames = numbered_frames(18);  // .mp4 stores them in another order
  for (const char* name : {"a:b.mp4", "clip.webm"}) {
    write_video(folder / name, frames, 16);
    const auto reader = open_video_reader(folder / name);
    EXPECT_NEAR(reader->fps(), 16, 1e-3) << name;
    int64_t count = 0;
    while (const auto frame = reader->next()) {
      EXPECT_NEAR(frame->seconds, static_cast<double>(count) / 16, 1e-3) << name;
      EXPECT_GT(psnr(frame->pixels, frames[count]), 33) << name << " " << count;
      ++count;
    }
    EXPECT_EQ(count, 18) << name;
  }
  write_video(folder / "colour.mp4", moving_picture());
  EXPECT_GT(psnr(all_frames(folder / "colour.mp4"), moving_picture()), 35);
}

TEST(FfmpegReader, ReadsAGifAsPilDoes) {
  const fs::path file = fixture_path("video/clip.gif");
  const at::Tensor expected = read_tensors(fixture_path("video/gif.safetensors")).at("frames");
  EXPECT_TRUE(torch::equal(all_frames(file), expected));
  const auto reader = open_video_reader(file);
  std::vector<double> seconds;
  while (const auto frame = reader->next()) {
    seconds.push_back(frame->seconds);
  }
  const std::vector<double> shown{0, 0.06, 0.08, 0.21, 0.27};
  ASSERT_EQ(seconds.size(), shown.size());
  for (size_t i = 0; i < shown.size(); ++i) {
    EXPECT_NEAR(seconds[i], shown[i], 1e-9);
  }
  // at 16 frames a second: 0, 62.5, 125, 187.5, 250 ms
  const at::Tensor sampled = read_frames(file, {.fps = 16}, 5);
  EXPECT_TRUE(torch::equal(sampled, expected.index_select(0, torch::tensor({0, 1, 2, 3, 4}))));
}

// Replaces the four numbers of the rotation in the track header of an .mp4.
void turn(const fs::path& file, std::array<int32_t, 4> rotation) {
  std::string bytes = file_text(file);
  const size_t matrix = bytes.find("tkhd") + 4 + 40;
  const size_t places[] = {0, 4, 12, 16};
  for (size_t i = 0; i < 4; ++i) {
    const auto value = static_cast<uint32_t>(rotation[i] * 65536);
    for (size_t byte = 0; byte < 4; ++byte) {
      bytes[matrix + places[i] + byte] = static_cast<char>(value >> (24 - 8 * byte));
    }
  }
  write_file(file, bytes);
}

TEST(FfmpegReader, TurnsFramesAsTheFileAsks) {
  const TemporaryFolder folder;
  write_video(folder / "clip.mp4", moving_picture());
  const at::Tensor upright = all_frames(folder / "clip.mp4");
  // the matrix of a phone held upright: shown turned clockwise by 90 degrees
  turn(folder / "clip.mp4", {0, 1, -1, 0});
  EXPECT_TRUE(torch::equal(all_frames(folder / "clip.mp4"), at::rot90(upright, -1, {1, 2})));
  turn(folder / "clip.mp4", {-1, 0, 0, -1});
  EXPECT_TRUE(torch::equal(all_frames(folder / "clip.mp4"), at::rot90(upright, 2, {1, 2})));
  turn(folder / "clip.mp4", {-1, 0, 0, 1});
  EXPECT_NE(refusal(folder / "clip.mp4").find("is mirrored"), std::string::npos);
}

TEST(FfmpegReader, RefusesFilesThatAreCutOff) {
  const TemporaryFolder folder;
  for (const char* name : {"clip.mp4", "clip.webm", "clip.gif"}) {
    write_video(folder / name, numbered_frames(18), 10);
    const std::string whole = file_text(folder / name);
    ASSERT_EQ(all_frames(folder / name).size(0), 18) << name;
    for (const double part : {0.01, 0.3, 0.6}) {
      write_file(folder / name,
                 whole.substr(0, static_cast<size_t>(static_cast<double>(whole.size()) * part)));
      EXPECT_NE(refusal(folder / name), "") << name << " " << part;
    }
  }
}

// FFmpeg 7 and earlier read no animated WebP; a later one may.
TEST(FfmpegReader, ReadsAnAnimatedWebpOrSaysThatItCannot) {
  const TemporaryFolder folder;
  write_video(folder / "clip.webp", moving_picture());
  const std::string found = refusal(folder / "clip.webp");
  EXPECT_TRUE(found.empty() || found.ends_with("of a kind that this FFmpeg cannot read")) << found;
}

TEST(FfmpegReader, ReadsOnlyTheFileItself) {
  const TemporaryFolder folder;
  write_video(folder / "clip.mp4", moving_picture());
  write_file(folder / "list.m3u8",
             "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n");
  write_file(folder / "list.ffconcat", "ffconcat version 1.0\nfile clip.mp4\n");
  for (const char* name : {"list.m3u8", "list.ffconcat"}) {
    EXPECT_NE(refusal(folder / name), "") << name;
  }
}

}  // namespace
}  // namespace ospnext

#endif  // OSPNEXT_FFMPEG
