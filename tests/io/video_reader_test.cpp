// Videos read back: the formats that need no FFmpeg, the choice of frames, and their scaling.
#include "io/video_reader.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/image.h"
#include "io/moving_picture.h"
#include "io/weights.h"
#include "support/paths.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

int64_t largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kInt) - b.to(at::kInt)).abs().max().item<int64_t>();
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

at::Tensor all_frames(const fs::path& file) {
  return read_frames(file, {}, 1000);
}

// A y4m file of one 4x2 frame with these planes.
std::string y4m(const std::string& tags, const std::string& planes) {
  return "YUV4MPEG2 W4 H2 F25:1 " + tags + "\nFRAME\n" + planes;
}

TEST(VideoReader, ReadsBackPngFramesExactly) {
  const TemporaryFolder folder;
  write_video(folder / "f_%d.png", moving_picture());
  write_file(folder / "notes.txt", "of another kind");
  EXPECT_TRUE(torch::equal(all_frames(folder.path()), moving_picture()));
}

TEST(VideoReader, OrdersImagesByNumberNotByName) {
  const TemporaryFolder folder;
  for (const int64_t number : {2, 10, 9}) {
    write_file(folder / ("a1_" + std::to_string(number) + ".png"),
               encode_png(at::full({2, 3, 3}, number, at::kByte)));
  }
  const at::Tensor frames = all_frames(folder.path());
  EXPECT_TRUE(torch::equal(frames.select(1, 0).select(1, 0).select(1, 0),
                           torch::tensor({2, 9, 10}, torch::kUInt8)));
  write_file(folder / "a1_010.png", encode_png(at::zeros({2, 3, 3}, at::kByte)));
  EXPECT_NE(refusal([&] { all_frames(folder.path()); }).find("has the number of"),
            std::string::npos);
}

TEST(VideoReader, RefusesImagesOfSeveralSizesAndFoldersWithoutImages) {
  const TemporaryFolder folder;
  EXPECT_NE(refusal([&] { all_frames(folder.path()); }).find("found no PNG images"),
            std::string::npos);
  write_file(folder / "0.png", encode_png(at::zeros({2, 3, 3}, at::kByte)));
  write_file(folder / "1.png", encode_png(at::zeros({3, 2, 3}, at::kByte)));
  EXPECT_NE(refusal([&] { all_frames(folder.path()); }).find("1.png: found 2x3 pixels"),
            std::string::npos);
}

TEST(Png, OfAnyKindIsReadAsPilReadsIt) {
  const fs::path folder = fixture_path("video");
  for (const auto& [name, expected] : read_tensors(folder / "png.safetensors")) {
    EXPECT_EQ(largest_difference(read_png(folder / (name + ".png")), expected), 0) << name;
  }
}

TEST(Y4mReader, GivesBackWhatWasWritten) {
  const TemporaryFolder folder;
  const at::Tensor frames = moving_picture();
  write_video(folder / "clip.y4m", frames, 23.976);
  const auto reader = open_video_reader(folder / "clip.y4m");
  EXPECT_NEAR(reader->fps(), 23.976, 1e-3);
  const at::Tensor read = all_frames(folder / "clip.y4m");
  ASSERT_EQ(read.sizes(), frames.sizes());
  const auto inside = [](const at::Tensor& x) {
    return x.slice(1, 1, kHeight - 1).slice(2, 1, kWidth - 1);
  };
  // a smooth picture, chroma of half the resolution, which is not known beyond the edge
  EXPECT_LE(largest_difference(inside(read), inside(frames)), 4);
  EXPECT_LE(largest_difference(read, frames), 8);
  const at::Tensor grey = frames.select(3, 0).unsqueeze(3).expand({-1, -1, -1, 3}).contiguous();
  write_video(folder / "grey.y4m", grey);
  EXPECT_LE(largest_difference(all_frames(folder / "grey.y4m"), grey), 1);
}

// R, G and B of one sample by the definition of BT.601, written independently for this test.
std::array<double, 3> bt601_rgb(double luma, double cb, double cr, bool full) {
  const double y = full ? luma : (luma - 16) * 255 / 219;
  const double b = (cb - 128) * (full ? 1 : 255.0 / 224), r = (cr - 128) * (full ? 1 : 255.0 / 224);
  return {y + 1.402 * r, y - (0.114 * 1.772 * b + 0.299 * 1.402 * r) / 0.587, y + 1.772 * b};
}

TEST(Y4mReader, KnowsRangesAndPlacesOfChroma) {
  const TemporaryFolder folder;
  const std::string luma = "\x40\x50\x60\x70\x80\x90\xa0\xb0";
  const auto sample = [](const std::string& plane, int i) {
    return static_cast<double>(static_cast<unsigned char>(plane[static_cast<size_t>(i)]));
  };
  const std::string cb = "\x60\x90", cr = "\xa0\x70";
  // columns of a chroma row by the place of its samples: in the middle of two pixels, and on the
  // left one
  const double in_middle[] = {0, 0.25, 0.75, 1}, on_left[] = {0, 0.5, 1, 1};
  for (const auto& [tags, full, place] :
       {std::tuple("C420jpeg XCOLORRANGE=LIMITED", false, in_middle),
        std::tuple("C420jpeg XCOLORRANGE=FULL", true, in_middle),
        std::tuple("C420mpeg2", false, on_left)}) {
    write_file(folder / "a.y4m", y4m(tags, luma + cb + cr));
    const at::Tensor read = all_frames(folder / "a.y4m");
    for (int i = 0; i < 8; ++i) {
      const double at = place[i % 4];
      const auto expected =
          bt601_rgb(sample(luma, i), sample(cb, 0) * (1 - at) + sample(cb, 1) * at,
                    sample(cr, 0) * (1 - at) + sample(cr, 1) * at, full);
      for (int c = 0; c < 3; ++c) {
        const double clamped = std::clamp(expected[static_cast<size_t>(c)], 0.0, 255.0);
        EXPECT_LE(std::abs(read[0][i / 4][i % 4][c].item<double>() - clamped), 0.501)
            << tags << " " << i << " " << c;
      }
    }
  }
  write_file(folder / "a.y4m", y4m("Cmono", luma));
  EXPECT_LE(std::abs(all_frames(folder / "a.y4m")[0][0][0][2].item<double>() -
                     bt601_rgb(0x40, 128, 128, false)[2]),
            0.501);
}

TEST(Y4mReader, ReadsOddSizes) {
  const TemporaryFolder folder;
  write_file(folder / "a.y4m",
             "YUV4MPEG2 W3 H1 F25:1 C420jpeg\nFRAME\n\x40\x80\xa0\x80\x80\x80\x80");
  const at::Tensor read = all_frames(folder / "a.y4m");
  EXPECT_EQ(read.sizes(), (at::IntArrayRef{1, 1, 3, 3}));
}

TEST(Y4mReader, RefusesWhatItCannotReadRight) {
  const TemporaryFolder folder;
  const std::string planes(12, '\x40');
  for (const auto& [bytes, part] : std::vector<std::pair<std::string, std::string>>{
           {y4m("It", planes), "interlaced"},
           {y4m("A10:11", planes), "expected square ones"},
           {y4m("C420p10", planes), "of 8 bits"},
           {y4m("", planes.substr(1)), "frame 0: the file is damaged or cut off"},
           {y4m("", planes) + "FRAM", "frame 1: the file is damaged or cut off"},
           {y4m("", planes) + "FRAMES\n" + planes, "frame 1: the file is damaged"},
           {"YUV4MPEG2 W4 H2\nFRAME\n", "no frame rate"},
           {"YUV4MPEG2 W4 H99999999999 F1:1\n", "expected 1 to 33554432 pixels"},
           {"YUV4MPEG2 W-4 H2 F1:1\n", "width: found \"-4\""},
           {"YUV4MPEG2 W4 H2 F25:1\n", "found no frame"}}) {
    write_file(folder / "a.y4m", bytes);
    const std::string found = refusal([&] { all_frames(folder / "a.y4m"); });
    EXPECT_NE(found.find(part), std::string::npos) << found;
    EXPECT_TRUE(found.starts_with((folder / "a.y4m").string())) << found;
  }
}

// A video without pixels whose frames are shown at these times.
class Times final : public VideoReader {
 public:
  explicit Times(std::vector<double> seconds) : seconds_(std::move(seconds)) {}
  double fps() const override { return 0; }
  std::optional<VideoFrame> next() override {
    if (count_ == seconds_.size()) {
      return std::nullopt;
    }
    const auto number = static_cast<int64_t>(count_);
    return VideoFrame{.pixels = at::full({1, 1, 3}, number, at::kByte),
                      .seconds = seconds_[count_++]};
  }

 private:
  std::vector<double> seconds_;
  size_t count_ = 0;
};

std::vector<double> times_of(double fps, int count) {
  std::vector<double> seconds;
  for (int i = 0; i < count; ++i) {
    seconds.push_back(i / fps);
  }
  return seconds;
}

struct Taken {
  std::vector<int64_t> frames;
  int64_t repeats = 0;
};

Taken taken(std::vector<double> seconds, const FrameSampling& sampling) {
  Times reader(std::move(seconds));
  SampledFrames sampled(reader, sampling);
  Taken result;
  while (const auto frame = sampled.next()) {
    result.frames.push_back(frame->flatten()[0].item<int64_t>());
  }
  result.repeats = sampled.repeats();
  return result;
}

using Numbers = std::vector<int64_t>;

TEST(SampledFrames, AreTheNearestInTimeAndTheEarlierOfTwo) {
  EXPECT_EQ(taken(times_of(32, 8), {.fps = 16}).frames, (Numbers{0, 2, 4, 6}));
  EXPECT_EQ(taken(times_of(24, 9), {.fps = 16}).frames, (Numbers{0, 1, 3, 4, 6, 7}));
  EXPECT_EQ(taken(times_of(30, 10), {.fps = 16}).frames, (Numbers{0, 2, 4, 6, 7, 9}));
  // times in whole milliseconds, as .mkv has them
  EXPECT_EQ(taken({0, 0.042, 0.083, 0.125}, {.fps = 16}).frames, (Numbers{0, 1, 3}));
  EXPECT_EQ(taken({0, 0.062, 0.125, 0.188, 0.25}, {.fps = 16}).frames, (Numbers{0, 1, 2, 3, 4}));
  EXPECT_EQ(taken({0, 0.01, 0.2, 0.21}, {.fps = 10}).frames, (Numbers{0, 1, 2}));
}

TEST(SampledFrames, CanBeAllOfThemFromATimeOn) {
  EXPECT_EQ(taken({0, 0.01, 0.2, 0.21}, {}).frames, (Numbers{0, 1, 2, 3}));
  EXPECT_EQ(taken(times_of(10, 6), {.start = 0.3}).frames, (Numbers{3, 4, 5}));
  EXPECT_EQ(taken(times_of(10, 6), {.fps = 5, .start = 0.2}).frames, (Numbers{2, 4}));
  EXPECT_EQ(taken(times_of(10, 6), {.fps = 5, .start = 9}).frames, Numbers{});
  EXPECT_EQ(taken({}, {.fps = 5}).frames, Numbers{});
}

TEST(SampledFrames, CountRepeats) {
  const Taken slow = taken(times_of(8, 3), {.fps = 16});
  EXPECT_EQ(slow.frames, (Numbers{0, 0, 1, 1, 2}));
  EXPECT_EQ(slow.repeats, 2);
  EXPECT_EQ(taken(times_of(24, 9), {.fps = 16}).repeats, 0);
}

TEST(Fitted, EqualsPilAndTorch) {
  const auto tensors = read_tensors(fixture_path("video/fit.safetensors"));
  for (const auto& [name, expected] : tensors) {
    if (name.starts_with("image_")) {
      continue;
    }
    const std::string case_name = name.substr(name.find('_') + 1);
    const at::Tensor image = tensors.at("image_" + case_name.substr(0, case_name.find('_')));
    const at::Tensor fit = fitted(image, expected.size(0), expected.size(1), "image");
    // PIL's weights have 22 bits, torch's 15 or fewer
    EXPECT_LE(largest_difference(fit, expected), name.starts_with("pil_") ? 1 : 0) << name;
  }
}

TEST(Fitted, RefusesAFrameThatWouldBecomeTooLarge) {
  const at::Tensor strip = at::zeros({1, 100'000, 3}, at::kByte);
  EXPECT_NE(refusal([&] { fitted(strip, 480, 832, "a.mp4"); }).find("a.mp4: scaled to its size"),
            std::string::npos);
}

TEST(VideoReader, RefusesWhatIsNoVideo) {
  const TemporaryFolder folder;
  write_file(folder / "a.mp4", std::string(1000, 'x'));
  for (const char* name : {"a.mp4", "missing.mp4"}) {
    EXPECT_TRUE(
        refusal([&] { all_frames(folder / name); }).starts_with((folder / name).string() + ": "))
        << name;
  }
}

TEST(VideoFrames, CoverMinusOneToOne) {
  const at::Tensor frames = torch::tensor({0, 255, 51}, torch::kUInt8).view({1, 1, 1, 3});
  const at::Tensor video = pixels_to_video(frames);
  EXPECT_EQ(video.sizes(), (at::IntArrayRef{3, 1, 1, 1}));
  EXPECT_TRUE(at::allclose(video.flatten(), torch::tensor({-1.0f, 1.0f, -0.6f})));
}

}  // namespace
}  // namespace ospnext
