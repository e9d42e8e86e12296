// RoPE rotations depend on the three axes and are in the order of the layout.
#include "models/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ospnext {
namespace {

TEST(Rope, SplitsAHeadAsWanDoes) {
  EXPECT_EQ(rope_axis_dims(128), (std::array<int64_t, 3>{44, 42, 42}));
  EXPECT_EQ(rope_axis_dims(24), (std::array<int64_t, 3>{8, 8, 8}));
  EXPECT_EQ(rope_axis_dims(2), (std::array<int64_t, 3>{2, 0, 0}));
}

TEST(Rope, TurnsPairsByPositionTimesFrequency) {
  const Grid grid{3, 4, 5};
  const at::Tensor table = rope_table(128, Layout(grid, Pattern::kFull, 1));
  const at::Tensor turned = at::view_as_real(table);  // [L, 64, 2]
  const auto expect_pair = [&](int64_t token, int64_t pair, double angle) {
    EXPECT_NEAR(turned[token][pair][0].item<float>(), std::cos(angle), 1e-7)
        << token << " " << pair;
    EXPECT_NEAR(turned[token][pair][1].item<float>(), std::sin(angle), 1e-7)
        << token << " " << pair;
  };
  const int64_t t = 2, row = 3, column = 1;
  const int64_t token = (t * grid.H + row) * grid.W + column;
  expect_pair(token, 0, t);
  expect_pair(token, 3, t * std::pow(10000.0, -6.0 / 44));
  expect_pair(token, 22, row);
  expect_pair(token, 23, row * std::pow(10000.0, -2.0 / 42));
  expect_pair(token, 43, column);
  expect_pair(token, 63, column * std::pow(10000.0, -40.0 / 42));
  expect_pair(0, 63, 0);
}

TEST(Rope, RowsFollowTheLayout) {
  const Grid grid{2, 3, 5};
  const Layout row_major(grid, Pattern::kFull, 1), token(grid, Pattern::kToken, 2);
  EXPECT_TRUE(
      at::equal(rope_table(12, token), rope_table(12, row_major).index_select(0, token.order())));
}

TEST(Rope, RefusesAnOddHeadWidth) {
  EXPECT_THROW(rope_table(7, Layout({1, 2, 2}, Pattern::kFull, 1)), c10::Error);
}

}  // namespace
}  // namespace ospnext
