// Orders and segments equal the padded reference's; switching is a permutation; plans follow the paper.
#include "models/layout.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "core/error.h"
#include "core/torch/random.h"
#include "io/weights.h"
#include "support/paths.h"

namespace ospnext {
namespace {

// "2x3x5.2.token.order" -> its layout
Layout layout_of(const std::string& name) {
  Grid grid;
  int64_t P = 0;
  char pattern[8] = {};
  EXPECT_EQ(
      std::sscanf(name.c_str(), "%ldx%ldx%ld.%ld.%5[a-z]", &grid.T, &grid.H, &grid.W, &P, pattern),
      5);
  return Layout(grid, pattern_from_name(pattern, name), P);
}

TEST(Layout, OrdersAndSegmentsEqualThePaddedReference) {
  const auto expected = read_tensors(fixture_path("transformer/layouts.safetensors"));
  ASSERT_EQ(expected.size(), 2 * 8 * 5 * 2);
  for (const auto& [name, tensor] : expected) {
    const Layout layout = layout_of(name);
    const bool is_order = name.ends_with("order");
    const at::Tensor actual = is_order ? layout.order() : at::tensor(layout.offsets(), at::kLong);
    EXPECT_TRUE(at::equal(actual, tensor.to(at::kLong))) << name;
  }
}

TEST(Layout, AWrongOrderOfPhasesIsNoticed) {
  const auto expected = read_tensors(fixture_path("transformer/layouts.safetensors"));
  const at::Tensor order = expected.at("2x3x5.2.token.order").to(at::kLong);
  const at::Tensor rows = order / 5 % 3 % 2, columns = order % 5 % 2;
  const at::Tensor transposed = order.index_select(
      0, at::argsort(columns * 2 + rows, /*stable=*/true, /*dim=*/0, /*descending=*/false));
  EXPECT_FALSE(at::equal(Layout({2, 3, 5}, Pattern::kToken, 2).order(), transposed));
  EXPECT_FALSE(at::equal(Layout({2, 3, 5}, Pattern::kGroup, 2).order(), order));
}

TEST(Layout, SegmentsMayBeEmpty) {
  const Layout group({1, 4, 4}, Pattern::kGroup, 4);
  EXPECT_EQ(group.lengths().size(), 16);
  EXPECT_EQ(group.lengths()[0], 16);
  EXPECT_EQ(group.offsets().back(), 16);
}

TEST(Layout, FullIsOneRowMajorSegmentWhateverTheRatio) {
  const Layout full({2, 3, 4}, Pattern::kFull, 3);
  EXPECT_TRUE(at::equal(full.order(), at::arange(24)));
  EXPECT_EQ(full.offsets(), (std::vector<int64_t>{0, 24}));
  EXPECT_TRUE(full == Layout({2, 3, 4}, Pattern::kFull, 2));
  EXPECT_FALSE(full == Layout({2, 4, 3}, Pattern::kFull, 2));
}

TEST(Layout, RefusesEmptyGridsAndAbsurdRatios) {
  EXPECT_THROW(Layout({0, 3, 4}, Pattern::kFull, 2), c10::Error);
  EXPECT_THROW(Layout({1, 3, 4}, Pattern::kToken, 0), c10::Error);
  EXPECT_THROW(Layout({1, 3, 4}, Pattern::kToken, 1 << 20), c10::Error);
}

TEST(SwitchLayout, PutsEveryTokenWhereItsLayoutSays) {
  const Grid grid{2, 5, 7};
  const at::Tensor tokens = at::arange(grid.tokens()).view({1, -1, 1});
  for (const Pattern from : {Pattern::kFull, Pattern::kToken, Pattern::kGroup}) {
    for (const Pattern to : {Pattern::kFull, Pattern::kToken, Pattern::kGroup}) {
      const Layout source(grid, from, 3), target(grid, to, 3);
      const at::Tensor x = tokens.index_select(1, source.order());
      const at::Tensor y = switch_layout(x, source, target);
      EXPECT_TRUE(at::equal(y.flatten(), target.order()));
      EXPECT_TRUE(at::equal(switch_layout(y, target, source), x));
    }
  }
}

TEST(SwitchLayout, CopiesNothingBetweenEqualLayouts) {
  const Layout layout({1, 2, 2}, Pattern::kToken, 2);
  const at::Tensor x = at::zeros({1, 4, 1});
  EXPECT_TRUE(switch_layout(x, layout, Layout({1, 2, 2}, Pattern::kToken, 2)).is_same(x));
}

TEST(PlanBlocks, DualEndAlternatesBetweenFullEnds) {
  const auto plan = plan_blocks(SkiparseType::kDualEnd, 40, 8);  // the 14B model
  for (int64_t i = 0; i < 40; ++i) {
    const Pattern layout = i < 4     ? Pattern::kToken
                           : i >= 36 ? Pattern::kGroup
                           : i % 2   ? Pattern::kGroup
                                     : Pattern::kToken;
    const Pattern pattern = i < 4 || i >= 36 ? Pattern::kFull : layout;
    EXPECT_EQ(plan[i], (BlockPlan{pattern, layout})) << i;
  }
}

TEST(PlanBlocks, UniformHasNoFullBlockAndFullNoSparseOne) {
  EXPECT_EQ(plan_blocks(SkiparseType::kUniform, 3, 0),
            (std::vector<BlockPlan>{{Pattern::kToken, Pattern::kToken},
                                    {Pattern::kGroup, Pattern::kGroup},
                                    {Pattern::kToken, Pattern::kToken}}));
  EXPECT_EQ(plan_blocks(SkiparseType::kFull, 1, 0),
            (std::vector<BlockPlan>{{Pattern::kFull, Pattern::kFull}}));
}

TEST(PatternNames, GoThereAndBackAndRefuseOthers) {
  for (const Pattern pattern : {Pattern::kFull, Pattern::kToken, Pattern::kGroup}) {
    EXPECT_EQ(pattern_from_name(pattern_name(pattern), "--from"), pattern);
  }
  EXPECT_THROW(pattern_from_name("row", "--from"), InputError);
}

}  // namespace
}  // namespace ospnext
