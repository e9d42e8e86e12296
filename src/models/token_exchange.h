// Moves the tokens of a video between layouts and ranks: a permutation on one rank, one all-to-all
// among several.
// Letters: B batch, L tokens of the video, l tokens of this rank, C width, R ranks.
#pragma once

#include <map>
#include <utility>

#include "core/torch/spans.h"
#include "core/torch/torch.h"
#include "models/layout.h"
#include "parallel/sequence_ranks.h"

namespace ospnext {

// Of a video [B, L, C] in some layout, each rank holds [B, l, C], l = layout.tokens_of(rank). All
// ranks call the same functions in the same order. Everything is differentiable; the gradient is
// that of the sum of what the ranks make of the results (parallel/exchanges.h). With one rank
// nothing is sent. One object serves one grid.
class TokenExchange {
 public:
  explicit TokenExchange(const SequenceRanks& ranks) : all_(ranks.all) {}

  // Makes the index tables of a switch; once for each pair of different layouts that is used.
  void add_switch(const Layout& from, const Layout& to);

  // Takes this rank's tokens out of all tokens. x [B, L, C], row-major -> [B, l, C]. Sends nothing.
  at::Tensor take_own(const at::Tensor& x, const Layout& layout) const;
  // Turns this rank's tokens in `from` into its tokens in `to`, with one all-to-all.
  // x [B, l of from, C] -> [B, l of to, C]; x itself when the layouts are equal. The work is
  // recorded in `spans` as "switch". Several ranks need add_switch() of the two before.
  at::Tensor switch_layout(const at::Tensor& x, const Layout& from, const Layout& to,
                           Spans* spans = nullptr) const;
  // All-gathers the tokens. x [B, l, C] -> [B, L, C], row-major, on every rank.
  at::Tensor gather(const at::Tensor& x, const Layout& layout) const;

 private:
  // How this rank takes part in a switch: it sends own[pack]; the result is received[unpack].
  struct Route {
    at::Tensor pack, pack_inverse;      // [l of from] int64: own tokens sorted by destination rank
    at::Tensor unpack, unpack_inverse;  // [l of to] int64: the received row for each own place
    std::vector<int64_t> sent, received;  // [R]: rows to and from each rank
  };
  const Route& route(const Layout& from, const Layout& to) const;

  ProcessGroup all_;
  std::map<std::pair<Pattern, Pattern>, Route> routes_;
};

// Which tokens this rank and the other ranks of its attention groups hold, when tokens lie in
// `layout` and attention follows `pattern`: inside the segments of the layout, or across all tokens
// when `pattern` is kFull.
AttentionShards attention_shards(const Layout& layout, Pattern pattern, const SequenceRanks& ranks);

}  // namespace ospnext
