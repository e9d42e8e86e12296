// Orders and segments equal those of the padded reference; a switch is a permutation; block plans
// follow the paper.
#include "models/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "core/torch/random.h"
#include "io/weights.h"
#include "support/paths.h"

namespace ospnext {
namespace {

// The layout of a fixture's name, such as "2x3x5.2.token.order".
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
    EXPECT_EQ(pattern_from_name(pattern_name(pattern), "`from`"), pattern);
  }
  EXPECT_THROW(pattern_from_name("row", "`from`"), InputError);
}

TEST(LayoutOwners, LieOnTheDiagonalsAtTwoOwners) {
  const std::vector<int64_t> diagonal = {0, 1, 1, 0};
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{5, 5, 5, 5}, {6, 6, 5, 5}, {6, 5, 6, 5}, {9, 6, 6, 4}}) {
    EXPECT_EQ(segment_owners(lengths, 2, 2), diagonal);
    EXPECT_EQ(segment_owners(lengths, 2, 1), (std::vector<int64_t>{0, 0, 0, 0}));
  }
  EXPECT_EQ(segment_owners({5, 5, 5, 5}, 2, 4), (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST(LayoutOwners, AreBalancedAndAllHaveASegment) {
  for (const int64_t owners : {2, 4, 8, 16}) {
    for (const Grid& grid : {Grid{1, 4, 4}, {1, 7, 9}, {2, 33, 18}}) {
      for (const Pattern pattern : {Pattern::kToken, Pattern::kGroup}) {
        const Layout plain(grid, pattern, 4);
        const auto owner_of = segment_owners(plain.lengths(), 4, owners);
        std::vector<int64_t> tokens(owners), segments(owners);
        for (size_t s = 0; s < owner_of.size(); ++s) {
          tokens[owner_of[s]] += plain.lengths()[s];
          segments[owner_of[s]] += 1;
        }
        const auto [least, most] = std::minmax_element(tokens.begin(), tokens.end());
        const auto longest = std::max_element(plain.lengths().begin(), plain.lengths().end());
        EXPECT_LE(*most - *least, *longest);
        EXPECT_GE(*std::min_element(segments.begin(), segments.end()), 1);
      }
    }
  }
}

TEST(Layout, RanksHoldRangesOfPlaces) {
  const Grid grid{2, 5, 7};
  const Layout plain(grid, Pattern::kToken, 2);
  const Layout spread(grid, Pattern::kToken, 2, at::kCPU, {2, 3});
  EXPECT_FALSE(plain == spread);
  EXPECT_EQ(spread.cuts().size(), 7);
  EXPECT_EQ(spread.cuts().back(), grid.tokens());
  EXPECT_TRUE(at::equal(spread.order().index_select(0, spread.places()), at::arange(70)));
  for (int64_t owner = 0; owner < 2; ++owner) {  // pieces add up to the owner's segments
    const auto whole = spread.pieces(3 * owner, 3 * owner + 3);
    int64_t sum = 0;
    for (size_t s = 0; s < whole.size(); ++s) {
      int64_t parts = 0;
      for (int64_t rank = 3 * owner; rank < 3 * owner + 3; ++rank) {
        parts += spread.pieces(rank, rank + 1)[s];
      }
      EXPECT_EQ(parts, whole[s]);
      sum += parts;
    }
    EXPECT_EQ(sum, spread.cuts()[3 * owner + 3] - spread.cuts()[3 * owner]);
  }
  EXPECT_EQ(plain.pieces(0, 1), plain.lengths());
  EXPECT_THROW(Layout(grid, Pattern::kFull, 2, at::kCPU, {2, 1}), c10::Error);
}

}  // namespace
}  // namespace ospnext
