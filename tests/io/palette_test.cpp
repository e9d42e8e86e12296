// Palettes, and pictures drawn with them.
#include "io/palette.h"

#include <gtest/gtest.h>

#include <set>

namespace ospnext {
namespace {

std::vector<Colour> palette_of(const at::Tensor& pixels, size_t count) {
  PaletteMaker maker;
  maker.add(pixels);
  return maker.palette(count);
}

at::Tensor shown(const at::Tensor& pixels, const std::vector<Colour>& palette) {
  const at::Tensor indices = PaletteDrawing(palette).draw(pixels);  // [H, W]
  at::Tensor colours = torch::empty({static_cast<int64_t>(palette.size()), 3}, torch::kUInt8);
  for (size_t i = 0; i < palette.size(); ++i) {
    std::copy_n(palette[i].data(), 3, colours[static_cast<int64_t>(i)].data_ptr<uint8_t>());
  }
  return colours.index_select(0, indices.flatten().to(torch::kInt64)).view(pixels.sizes());
}

// [H, W, 3] uint8: red along, green down, blue both.
at::Tensor gradient() {
  const at::Tensor along = torch::arange(128).view({1, -1}).expand({64, -1}) * 2;
  const at::Tensor down = torch::arange(64).view({-1, 1}).expand({-1, 128}) * 4;
  return torch::stack({along, down, (along + down) / 2}, -1).to(torch::kUInt8).contiguous();
}

TEST(Palette, HoldsFewColoursExactly) {
  const at::Tensor pixels =
      torch::tensor({{{255, 0, 0}, {255, 0, 0}}, {{0, 7, 255}, {130, 120, 110}}}, torch::kUInt8);
  const auto palette = palette_of(pixels, 255);
  EXPECT_EQ(std::set<Colour>(palette.begin(), palette.end()),
            (std::set<Colour>{{255, 0, 0}, {0, 7, 255}, {130, 120, 110}}));
  EXPECT_TRUE(torch::equal(shown(pixels, palette), pixels));
}

TEST(Palette, NeverHasMoreColoursThanAsked) {
  EXPECT_EQ(palette_of(gradient(), 16).size(), 16u);
  EXPECT_EQ(palette_of(gradient(), 1).size(), 1u);
  EXPECT_EQ(PaletteMaker().palette(16).size(), 1u);  // of nothing
}

TEST(Palette, GetsCloserWithMoreColours) {
  const at::Tensor pixels = gradient();
  double before = 1e9;
  for (const size_t count : {4, 16, 64, 255}) {
    const at::Tensor error =
        (shown(pixels, palette_of(pixels, count)).to(torch::kFloat32) - pixels.to(torch::kFloat32));
    const double mean = error.pow(2).mean().item<double>();
    EXPECT_LT(mean, before / 2) << count;
    before = mean;
  }
  EXPECT_LT(before, 100);  // ten levels, most of it the pattern
}

TEST(PaletteDrawing, MixesColoursToTheRightMean) {
  const std::vector<Colour> palette = {{0, 0, 0}, {255, 255, 255}};
  for (const int grey : {32, 100, 128, 200}) {
    const at::Tensor pixels = torch::full({64, 64, 3}, grey, torch::kUInt8);
    const double mean = shown(pixels, palette).to(torch::kFloat32).mean().item<double>();
    EXPECT_NEAR(mean, grey, 4) << grey;  // 64 thresholds: steps of four levels
  }
}

TEST(PaletteDrawing, StandsStill) {
  const at::Tensor pixels = gradient();
  PaletteDrawing drawing(palette_of(pixels, 32));
  const at::Tensor first = drawing.draw(pixels);
  at::Tensor changed = pixels.clone();
  changed.slice(1, 100, 128).fill_(77);
  const at::Tensor second = drawing.draw(changed);
  EXPECT_TRUE(torch::equal(first.slice(1, 0, 100), second.slice(1, 0, 100)));
}

}  // namespace
}  // namespace ospnext
