#include "models/layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

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

std::vector<int64_t> segment_owners(const std::vector<int64_t>& lengths, int64_t ratio,
                                    int64_t owners) {
  std::vector<int64_t> by_length(lengths.size());
  std::iota(by_length.begin(), by_length.end(), 0);
  std::stable_sort(by_length.begin(), by_length.end(),
                   [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
  std::vector<int64_t> owner_of(lengths.size());
  std::vector<std::pair<int64_t, int64_t>> load(owners);  // tokens and segments of each owner
  for (const int64_t segment : by_length) {
    const int64_t diagonal = segment / ratio + segment % ratio;  // decides between equal loads
    int64_t best = diagonal % owners;
    for (int64_t i = 1; i < owners; ++i) {
      const int64_t other = (diagonal + i) % owners;
      best = load[other] < load[best] ? other : best;
    }
    owner_of[segment] = best;
    load[best].first += lengths[segment];
    load[best].second += 1;
  }
  return owner_of;
}

Layout::Layout(const Grid& grid, Pattern pattern, int64_t ratio, at::Device device,
               const Spread& spread)
    : grid_(grid),
      pattern_(pattern),
      ratio_(pattern == Pattern::kFull ? 1 : ratio),
      spread_(spread) {
  TORCH_CHECK(grid.T > 0 && grid.H > 0 && grid.W > 0, "grid: expected positive sides, got ", grid.T,
              "x", grid.H, "x", grid.W);
  TORCH_CHECK(ratio >= 1 && ratio <= 1024, "sparse ratio: expected 1 to 1024, got ", ratio);
  TORCH_CHECK(spread.owners >= 1 && spread.owners <= ratio_ * ratio_ && spread.sharers >= 1,
              "spread: ", spread.owners, " owners of ", ratio_ * ratio_, " segments");
  const int64_t L = grid.tokens();
  // A stable counting sort by segment: count the lengths, add them up to offsets, then give each
  // token its place in one row-major pass.
  std::vector<int64_t> natural(ratio_ * ratio_);  // length of each segment, by its number
  for (int64_t row = 0; row < grid.H; ++row) {
    for (int64_t column = 0; column < grid.W; ++column) {
      natural[segment_of(pattern, ratio_, row, column)] += grid.T;
    }
  }
  const auto owners = segment_owners(natural, ratio_, spread.owners);
  std::vector<int64_t> next(natural.size());  // place of the next token of each segment
  offsets_.assign(1, 0);
  first_segment_.assign(1, 0);
  cuts_.assign(1, 0);
  for (int64_t owner = 0; owner < spread.owners; ++owner) {
    const int64_t start = offsets_.back();
    for (size_t segment = 0; segment < natural.size(); ++segment) {
      if (owners[segment] == owner) {
        next[segment] = offsets_.back();
        lengths_.push_back(natural[segment]);
        offsets_.push_back(offsets_.back() + natural[segment]);
      }
    }
    first_segment_.push_back(std::ssize(lengths_));
    for (int64_t i = 1; i <= spread.sharers; ++i) {
      cuts_.push_back(start + (offsets_.back() - start) * i / spread.sharers);
    }
  }
  order_ = at::empty({L}, at::kLong);
  places_ = at::empty({L}, at::kLong);
  int64_t* const order = order_.mutable_data_ptr<int64_t>();
  int64_t* const places = places_.mutable_data_ptr<int64_t>();
  for (int64_t token = 0; token < L; ++token) {
    const int64_t row = token / grid.W % grid.H, column = token % grid.W;
    const int64_t place = next[segment_of(pattern, ratio_, row, column)]++;
    order[place] = token;
    places[token] = place;
  }
  order_ = order_.to(device);
  places_ = places_.to(device);
}

std::vector<int64_t> Layout::pieces(int64_t first, int64_t last) const {
  const int64_t owner = first / spread_.sharers;
  std::vector<int64_t> lengths;
  for (int64_t s = first_segment_[owner]; s < first_segment_[owner + 1]; ++s) {
    const int64_t begin = std::max(offsets_[s], cuts_[first]);
    const int64_t end = std::min(offsets_[s + 1], cuts_[last]);
    lengths.push_back(std::max<int64_t>(end - begin, 0));
  }
  return lengths;
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
