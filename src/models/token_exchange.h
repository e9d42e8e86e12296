// A video's tokens between layouts and ranks: one permutation, and one all-to-all where there are several ranks.
#pragma once

#include <map>
#include <utility>

#include "core/torch/spans.h"
#include "core/torch/torch.h"
#include "models/layout.h"
#include "parallel/sequence_ranks.h"

namespace ospnext {

// What one rank holds of a video x [B, L, C] in a layout is x [B, l, C], l = layout.tokens_of(rank). All ranks
// call the same functions in the same order. With one rank differentiable and nothing but switch_layout() of
// layout.h; otherwise neither. Remembers what it computed for a pair of layouts, so it is for one grid.
class TokenExchange {
 public:
  explicit TokenExchange(const SequenceRanks& ranks) : all_(ranks.all) {}

  // All tokens, row-major [B, L, C] -> this rank's. No exchange.
  at::Tensor take_own(const at::Tensor& x, const Layout& layout) const;
  // This rank's tokens in `from` -> its tokens in `to`, by one all-to-all; x itself when they are equal.
  at::Tensor switch_layout(const at::Tensor& x, const Layout& from, const Layout& to,
                           Spans* spans = nullptr);
  // This rank's tokens -> all tokens, row-major, on every rank.
  at::Tensor gather(const at::Tensor& x, const Layout& layout) const;

 private:
  struct Route {
    at::Tensor pack;    // [l of from]: which token is sent at which place, rank after rank
    at::Tensor unpack;  // [l of to]: which of those received lies at which place
    std::vector<int64_t> sent, received;
  };
  const Route& route(const Layout& from, const Layout& to);

  ProcessGroup all_;
  std::map<std::pair<Pattern, Pattern>, Route> routes_;
};

// Which tokens this rank and those it attends with hold when `layout` is attended to with `pattern`: inside
// its segments, or across all of them when that is full.
AttentionShards attention_shards(const Layout& layout, Pattern pattern, const SequenceRanks& ranks);

}  // namespace ospnext
