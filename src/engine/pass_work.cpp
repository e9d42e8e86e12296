#include "engine/pass_work.h"

#include <algorithm>
#include <numeric>

namespace ospnext {
namespace {

int64_t largest(const RankCounts& counts) {
  return *std::max_element(counts.begin(), counts.end());
}

RankCounts tokens_by_rank(const Layout& layout) {
  RankCounts tokens;
  for (int64_t rank = 0; rank < layout.spread().ranks(); ++rank) {
    tokens.push_back(layout.tokens_of(rank));
  }
  return tokens;
}

// The number of tokens that each rank sends in a switch of layouts.
RankCounts leaving(const Layout& from, const Layout& to) {
  RankCounts counts;
  for (int64_t rank = 0; rank < from.spread().ranks(); ++rank) {
    const at::Tensor places = to.places().index_select(
        0, from.order().narrow(0, from.cuts()[rank], from.tokens_of(rank)));
    const at::Tensor stays = (places >= to.cuts()[rank]).logical_and(places < to.cuts()[rank + 1]);
    counts.push_back(from.tokens_of(rank) - stays.sum().item<int64_t>());
  }
  return counts;
}

// The work of a block, without the switch before it.
BlockWork block_work(const TransformerConfig& transformer, const Layout& layout, Pattern pattern,
                     const SequenceMesh& mesh) {
  const bool full = pattern == Pattern::kFull;
  BlockWork work{.pattern = pattern, .switched = {}, .tokens = tokens_by_rank(layout)};
  work.ulysses = full ? full_ulysses(mesh, transformer.num_heads) : mesh.ulysses;
  work.ring = (full ? mesh.size() : mesh.sharers()) / work.ulysses;
  if (full) {
    const auto L = static_cast<double>(layout.grid().tokens());
    work.pairs = L * L / mesh.size();
    return work;
  }
  RankCounts of_owner;
  for (int owner = 0; owner < mesh.ssp; ++owner) {
    of_owner.push_back(
        pairs_in(layout.pieces(owner * mesh.sharers(), (owner + 1) * mesh.sharers())));
  }
  work.pairs = static_cast<double>(largest(of_owner)) / mesh.sharers();
  return work;
}

}  // namespace

int64_t pairs_in(const RankCounts& lengths) {
  return std::inner_product(lengths.begin(), lengths.end(), lengths.begin(), int64_t{0});
}

int64_t BlockWork::most_tokens() const {
  return largest(tokens);
}

RankCounts BlockWork::to_heads() const {
  RankCounts rows = tokens;
  for (int64_t& count : rows) {
    count *= ulysses - 1;
  }
  return rows;
}

RankCounts BlockWork::to_tokens() const {
  RankCounts rows = held();
  for (size_t rank = 0; rank < rows.size(); ++rank) {
    rows[rank] -= tokens[rank];
  }
  return rows;
}

RankCounts BlockWork::held() const {
  RankCounts rows;
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    const auto group = tokens.begin() + static_cast<int64_t>(rank) / ulysses * ulysses;
    rows.push_back(std::accumulate(group, group + ulysses, int64_t{0}));
  }
  return rows;
}

std::vector<BlockWork> pass_work(const TransformerConfig& transformer, const Grid& grid,
                                 const SequenceMesh& mesh) {
  const auto plan =
      plan_blocks(transformer.skiparse_type(), transformer.num_layers, transformer.num_full_blocks);
  const auto layout_of = [&](Pattern pattern) {
    return Layout(grid, pattern, transformer.sparse_ratio, at::kCPU, {mesh.ssp, mesh.sharers()});
  };
  const Layout first = layout_of(plan.front().layout);
  const Layout other = layout_of(first.pattern() == Pattern::kToken   ? Pattern::kGroup
                                 : first.pattern() == Pattern::kGroup ? Pattern::kToken
                                                                      : Pattern::kFull);
  const RankCounts there = leaving(first, other), back = leaving(other, first);
  std::vector<BlockWork> blocks;
  Pattern at = first.pattern();
  for (const BlockPlan& block : plan) {
    const bool in_first = block.layout == first.pattern();
    blocks.push_back(block_work(transformer, in_first ? first : other, block.pattern, mesh));
    if (block.layout != at) {
      blocks.back().switched = in_first ? back : there;
      at = block.layout;
    }
  }
  return blocks;
}

void SentBytes::add(const RankCounts& rows, int64_t row_bytes, int64_t times) {
  if (bytes_.size() == 1) {
    return;
  }
  exchanges_ += times;
  for (size_t rank = 0; rank < rows.size(); ++rank) {
    bytes_[rank] += times * rows[rank] * row_bytes;
  }
}

int64_t SentBytes::bytes() const {
  return largest(bytes_);
}

}  // namespace ospnext
