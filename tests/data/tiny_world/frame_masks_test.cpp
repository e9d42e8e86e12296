// Compares the masks of frames with their definition, pixel by pixel.
#include "data/tiny_world/frame_masks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace ospnext {
namespace {

constexpr int64_t kFrames = 2, kHeight = 7, kWidth = 11;

Mask random_mask(double share) {
  std::mt19937 generator(1);
  std::bernoulli_distribution is_set(share);
  Mask mask(kFrames * kHeight * kWidth);
  std::ranges::generate(mask, [&] { return static_cast<uint8_t>(is_set(generator)); });
  return mask;
}

// How many pixels within `margin` of pixel i, in its frame, are `value`.
int64_t count_near(const Mask& mask, int64_t i, int64_t margin, uint8_t value) {
  const int64_t frame = i / (kHeight * kWidth), row = i / kWidth % kHeight, column = i % kWidth;
  int64_t count = 0;
  for (int64_t y = std::max<int64_t>(row - margin, 0); y < std::min(row + margin + 1, kHeight);
       ++y) {
    for (int64_t x = std::max<int64_t>(column - margin, 0);
         x < std::min(column + margin + 1, kWidth); ++x) {
      count += mask[(frame * kHeight + y) * kWidth + x] == value;
    }
  }
  return count;
}

class FrameMasks : public testing::TestWithParam<int64_t> {};

TEST_P(FrameMasks, DilatedHasTheNeighboursOfWhatIsSet) {
  const Mask mask = random_mask(0.1), wide = dilated(mask, kHeight, kWidth, GetParam());
  for (int64_t i = 0; i < std::ssize(mask); ++i) {
    EXPECT_EQ(wide[i], count_near(mask, i, GetParam(), 1) > 0) << "pixel " << i;
  }
}

TEST_P(FrameMasks, ErodedHasWhatHasNoNeighbourThatIsNotSet) {
  const Mask mask = random_mask(0.9), narrow = eroded(mask, kHeight, kWidth, GetParam());
  for (int64_t i = 0; i < std::ssize(mask); ++i) {
    EXPECT_EQ(narrow[i], count_near(mask, i, GetParam(), 0) == 0) << "pixel " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Margins, FrameMasks, testing::Values(1, 2));

TEST(NextSet, FindsEachPixelThatIsSet) {
  const Mask mask{0, 1, 1, 0, 0, 1, 0};
  EXPECT_EQ(next_set(mask, 0), 1);
  EXPECT_EQ(next_set(mask, 2), 2);
  EXPECT_EQ(next_set(mask, 3), 5);
  EXPECT_EQ(next_set(mask, 6), 7);
  EXPECT_EQ(next_set(mask, 7), 7);
  EXPECT_EQ(next_set({}, 0), 0);
}

}  // namespace
}  // namespace ospnext
