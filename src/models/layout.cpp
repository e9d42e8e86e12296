#include "models/layout.h"

#include <algorithm>

#include "core/error.h"
#include "core/torch/shape_check.h"
#include "kernels/permute_tokens.h"

namespace ospnext {
namespace {

int64_t segment_of(Pattern pattern, int64_t P, int64_t row, int64_t column) {
  switch (pattern) {
    case Pattern::kToken:
      return row % P * P + column % P;
    case Pattern::kGroup:
      return row / P % P * P + column / P % P;
    case Pattern::kFull:
      break;
  }
  return 0;
}

}  // namespace

std::string pattern_name(Pattern pattern) {
  return pattern == Pattern::kFull ? "full" : pattern == Pattern::kToken ? "token" : "group";
}

Pattern pattern_from_name(const std::string& name, const std::string& origin) {
  for (const Pattern pattern : {Pattern::kFull, Pattern::kToken, Pattern::kGroup}) {
    if (name == pattern_name(pattern)) {
      return pattern;
    }
  }
  throw InputError(origin + ": found \"" + name + "\", expected full, token or group");
}

Layout::Layout(const Grid& grid, Pattern pattern, int64_t ratio, at::Device device)
    : grid_(grid), pattern_(pattern), ratio_(pattern == Pattern::kFull ? 1 : ratio) {
  TORCH_CHECK(grid.T > 0 && grid.H > 0 && grid.W > 0, "grid: expected positive sides, got ", grid.T,
              "x", grid.H, "x", grid.W);
  TORCH_CHECK(ratio >= 1 && ratio <= 1024, "sparse ratio: expected 1 to 1024, got ", ratio);
  const int64_t L = grid.tokens();
  // A stable counting sort by segment: lengths, offsets, then one pass in row-major order.
  lengths_.assign(ratio_ * ratio_, 0);
  for (int64_t row = 0; row < grid.H; ++row) {
    for (int64_t column = 0; column < grid.W; ++column) {
      lengths_[segment_of(pattern, ratio_, row, column)] += grid.T;
    }
  }
  offsets_.assign(1, 0);
  for (const int64_t length : lengths_) {
    offsets_.push_back(offsets_.back() + length);
  }
  order_ = at::empty({L}, at::kLong);
  places_ = at::empty({L}, at::kLong);
  int64_t* const order = order_.mutable_data_ptr<int64_t>();
  int64_t* const places = places_.mutable_data_ptr<int64_t>();
  std::vector<int64_t> next = offsets_;
  for (int64_t token = 0; token < L; ++token) {
    const int64_t row = token / grid.W % grid.H, column = token % grid.W;
    const int64_t place = next[segment_of(pattern, ratio_, row, column)]++;
    order[place] = token;
    places[token] = place;
  }
  order_ = order_.to(device);
  places_ = places_.to(device);
}

at::Tensor switch_layout(const at::Tensor& x, const Layout& from, const Layout& to) {
  TORCH_CHECK(from.grid() == to.grid(), "switch_layout: the layouts are of different grids");
  const int64_t L = from.grid().tokens();
  CHECK_SHAPE(x, -1, L, -1);
  if (from == to) {
    return x;
  }
  return permute_tokens(x, from.places().index_select(0, to.order()),
                        to.places().index_select(0, from.order()));
}

std::vector<BlockPlan> plan_blocks(SkiparseType type, int64_t num_layers, int64_t num_full_blocks) {
  if (type == SkiparseType::kFull) {
    return std::vector<BlockPlan>(num_layers, {Pattern::kFull, Pattern::kFull});
  }
  const auto sparse_pattern = [](int64_t i) {
    return i % 2 == 0 ? Pattern::kToken : Pattern::kGroup;
  };
  const int64_t first_sparse = num_full_blocks / 2;
  const int64_t last_sparse = num_layers - num_full_blocks / 2 - 1;
  TORCH_CHECK(first_sparse <= last_sparse, "plan_blocks: ", num_full_blocks, " full blocks of ",
              num_layers, " leave no sparse one");
  std::vector<BlockPlan> plan;
  for (int64_t i = 0; i < num_layers; ++i) {
    const bool sparse = first_sparse <= i && i <= last_sparse;
    const Pattern layout = sparse_pattern(std::clamp(i, first_sparse, last_sparse));
    plan.push_back({sparse ? layout : Pattern::kFull, layout});
  }
  return plan;
}

}  // namespace ospnext
