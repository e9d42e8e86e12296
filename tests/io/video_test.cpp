// Videos in the formats that need no FFmpeg, read back exactly, and properties of all writers.
#include "io/video.h"

#include <gtest/gtest.h>
#include <png.h>
#include <sys/stat.h>

#include <cmath>
#include <sstream>

#include "core/error.h"
#include "io/moving_picture.h"
#include "io/readers/video_comment.h"

namespace ospnext {
namespace {

std::string refusal(const std::filesystem::path& output,
                    const VideoFormat& format = {kWidth, kHeight, 16, ""}) {
  try {
    check_video_output(output, format, "`output`");
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

// One pixel by the definition of BT.601 in limited range, written independently for this test.
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
  for (const std::string& name : video_names()) {
    auto writer = open_video(folder / name, {kWidth, kHeight, 16, ""});
    writer->write(moving_picture());
    EXPECT_FALSE(folder.names().empty()) << name;
    for (const std::string& present : folder.names()) {
      EXPECT_TRUE(present.starts_with(".")) << present;
    }
    writer.reset();
    EXPECT_TRUE(folder.names().empty()) << name;
  }
}

TEST(VideoWriter, KeepsAnOlderFileUntilItIsFinished) {
  const TemporaryFolder folder;
  for (const std::string& name : video_names()) {
    const auto file = name.find('%') == name.npos ? folder / name : numbered_file(folder / name, 1);
    write_file(file, "old");
    auto writer = open_video(folder / name, {kWidth, kHeight, 16, ""});
    writer->write(moving_picture());
    EXPECT_EQ(file_text(file), "old") << name;
    writer->finish();
    EXPECT_EQ(file_text(file), "old") << name;
    writer->commit();
    EXPECT_NE(file_text(file), "old") << name;
  }
}

TEST(VideoWriter, SaysWhenTheFolderIsGone) {
  const TemporaryFolder folder;
  for (const std::string& name : video_names()) {
    std::filesystem::create_directory(folder / "gone");
    auto writer = open_video(folder / "gone" / name, {kWidth, kHeight, 16, ""});
    writer->write(moving_picture());
    std::filesystem::remove_all(folder / "gone");
    try {
      writer->finish();
      writer->commit();
      ADD_FAILURE() << name;
    } catch (const RunError& error) {
      EXPECT_NE(std::string(error.what()).find((folder / "gone").string()), std::string::npos);
    }
    writer.reset();
    EXPECT_TRUE(folder.names().empty()) << name;
  }
}

TEST(VideoWriter, ClosesItsFileToASecondWriter) {
  const TemporaryFolder folder;
  for (const char* name : {"clip.y4m", "%d.png"}) {
    const auto writer = open_video(folder / name, {kWidth, kHeight, 16, ""});
    EXPECT_THROW(open_video(folder / name, {kWidth, kHeight, 16, ""}), InputError) << name;
  }
}

TEST(VideoWriter, WritesTheSameBytesAgain) {
  const TemporaryFolder folder;
  for (const std::string& name : video_names()) {
    const auto file = name.find('%') == name.npos ? folder / name : numbered_file(folder / name, 1);
    write_video(folder / name, moving_picture(), 16, "made by a test");
    const std::string first = file_text(file);
    write_video(folder / name, moving_picture(), 16, "made by a test");
    EXPECT_TRUE(file_text(file) == first) << name;
  }
}

TEST(VideoComment, IsReadBackFromWhateverKeepsIt) {
  const TemporaryFolder folder;
  const std::string comment = "{\"a\": \"<b> & 'c' \\\\ \u8349\u539f\"}" + std::string(1000, 'x');
  for (const std::string& name : video_names()) {
    const auto file = name.find('%') == name.npos ? folder / name : numbered_file(folder / name, 1);
    write_video(folder / name, moving_picture(), 16, comment);
    if (file.extension() == ".y4m") {
      EXPECT_THROW(read_video_comment(file), InputError);
      continue;
    }
    EXPECT_EQ(read_video_comment(file), comment) << name;
    write_video(folder / name, moving_picture(), 16);
    EXPECT_EQ(read_video_comment(file), "") << name;
  }
}

TEST(VideoComment, OfAFileThatIsCutOffIsRefusedOrWhole) {
  const TemporaryFolder folder;
  for (const std::string& name : video_names()) {
    const auto file = name.find('%') == name.npos ? folder / name : numbered_file(folder / name, 1);
    write_video(folder / name, moving_picture(), 16, "a comment");
    const std::string whole = file_text(file);
    for (size_t size = 1; size < whole.size(); size += 1 + size / 16) {
      write_file(folder / "cut", whole.substr(0, size));
      try {
        const std::string found = read_video_comment(folder / "cut");
        EXPECT_TRUE(found.empty() || found == "a comment") << name << " at " << size;
      } catch (const InputError&) {
      }
    }
  }
}

TEST(VideoWriter, RefusesFramesOfAnotherSize) {
  const TemporaryFolder folder;
  const auto writer = open_video(folder / "clip.y4m", {kWidth, kHeight + 2, 16, ""});
  EXPECT_THROW(writer->write(moving_picture()), c10::Error);
}

TEST(VideoOutput, RefusesNamesOfNoFormatAndPlacesThatTakeNoFile) {
  const TemporaryFolder folder;
  for (const char* name : {"clip.avi", "clip", "frame.png", "%d_%d.png", "%x.png", "%5d.png",
                           "%%04d.png", "100%_%d.png", "%.png", "%010d.png", "a%d.png%"}) {
    EXPECT_NE(refusal(folder / name).find("expected a name ending in .mp4"), std::string::npos)
        << name;
  }
  EXPECT_NE(refusal(folder / "clip.y4m", {63, 48, 16, ""}).find("even sides"), std::string::npos);
#ifdef OSPNEXT_FFMPEG
  EXPECT_NE(refusal(folder / "clip.mp4", {63, 48, 16, ""}).find("even sides"), std::string::npos);
  EXPECT_NE(refusal(folder / "clip.gif", {64, 48, 60, ""}).find("at most 50"), std::string::npos);
  EXPECT_NE(refusal(folder / "clip.webp", {16384, 48, 60, ""}).find("16383"), std::string::npos);
#endif
  EXPECT_NE(refusal(folder / "no/clip.y4m").find("there is no folder"), std::string::npos);
  std::filesystem::create_directory(folder / "d.y4m");
  EXPECT_NE(refusal(folder / "d.y4m").find("is a folder"), std::string::npos);
  EXPECT_NE(refusal("/proc/clip.y4m"), "");
  EXPECT_EQ(refusal(folder / "%d.png"), "");
  EXPECT_EQ(refusal(folder / "clip.y4m"), "");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"d.y4m"});
}

}  // namespace
}  // namespace ospnext
