#include "models/token_exchange.h"

#include "core/torch/shape_check.h"
#include "kernels/permute_tokens.h"
#include "parallel/exchanges.h"

namespace ospnext {
namespace {

// The rows of this rank. rows [L, ...], one for each place -> [l, ...], a view.
at::Tensor own_rows(const at::Tensor& rows, const Layout& layout, int rank) {
  return rows.narrow(0, layout.cuts()[rank], layout.tokens_of(rank));
}

// How many of `places` [l], sorted in ascending order, each rank holds in `layout` -> [R].
std::vector<int64_t> count_by_rank(const at::Tensor& places, const Layout& layout) {
  const at::Tensor cuts = at::tensor(layout.cuts(), at::kLong).to(places.device());
  const at::Tensor before = at::searchsorted(places.contiguous(), cuts).to(at::kCPU);  // [R+1]
  std::vector<int64_t> counts;
  for (int64_t rank = 0; rank < layout.spread().ranks(); ++rank) {
    counts.push_back(before[rank + 1].item<int64_t>() - before[rank].item<int64_t>());
  }
  return counts;
}

// Reorders received rows: l b c -> b l c. rows [l, B, C] -> [B, l, C]; token i of the result is
// rows[index[i]]. `inverse` undoes `index` [l].
at::Tensor unpacked(const at::Tensor& rows, const at::Tensor& index, const at::Tensor& inverse) {
  const at::Tensor picked =
      permute_tokens(rows.flatten(1).unsqueeze(0), index, inverse)[0];  // [l, B·C]
  return picked.view(rows.sizes()).transpose(0, 1).contiguous();        // [B, l, C]
}

}  // namespace

at::Tensor TokenExchange::take_own(const at::Tensor& x, const Layout& layout) const {
  CHECK_SHAPE(x, -1, layout.grid().tokens(), -1);
  if (!all_.alone()) {
    return gather_tokens(x, own_rows(layout.order(), layout, all_.rank()));
  }
  return layout.pattern() == Pattern::kFull ? x
                                            : permute_tokens(x, layout.order(), layout.places());
}

at::Tensor TokenExchange::switch_layout(const at::Tensor& x, const Layout& from, const Layout& to,
                                        Spans* spans) const {
  const Span span(from == to ? nullptr : spans, SpanKind::kBlock, "switch");
  if (all_.alone()) {
    return ospnext::switch_layout(x, from, to);
  }
  CHECK_SHAPE(x, -1, from.tokens_of(all_.rank()), -1);
  if (from == to) {
    return x;
  }
  const Route& way = route(from, to);
  // b l c -> l b c, so that the rows for one rank are contiguous
  const at::Tensor rows =
      permute_tokens(x, way.pack, way.pack_inverse).transpose(0, 1).contiguous();  // [l, B, C]
  return unpacked(exchange_rows(all_, rows, way.sent, way.received, "switch"), way.unpack,
                  way.unpack_inverse);
}

at::Tensor TokenExchange::gather(const at::Tensor& x, const Layout& layout) const {
  CHECK_SHAPE(x, -1, layout.tokens_of(all_.rank()), -1);
  if (all_.alone()) {
    return layout.pattern() == Pattern::kFull ? x
                                              : permute_tokens(x, layout.places(), layout.order());
  }
  std::vector<int64_t> rows;
  for (int rank = 0; rank < all_.size(); ++rank) {
    rows.push_back(layout.tokens_of(rank));
  }
  const at::Tensor whole =
      gather_rows(all_, x.transpose(0, 1).contiguous(), rows, "gather");  // [L, B, C]
  return unpacked(whole, layout.places(), layout.order());                // [B, L, C]
}

// In both layouts each rank holds a contiguous range of places. So tokens that are sorted by their
// place in `to` are also sorted by destination rank. A rank sends its tokens in this order. It
// receives the tokens of rank 0, then of rank 1, and so on; those of one rank are sorted by their
// place in `to`.
void TokenExchange::add_switch(const Layout& from, const Layout& to) {
  if (all_.alone() || from == to) {
    return;
  }
  TORCH_CHECK(from.grid() == to.grid() && from.spread() == to.spread() &&
                  from.spread().ranks() == all_.size(),
              "switch_layout: the layouts are of different grids or ranks");
  // place in `to` of each token that this rank holds in `from`, [l of from]
  const auto leaving = to.places().index_select(0, own_rows(from.order(), from, all_.rank()));
  const auto [sorted_leaving, pack] = leaving.sort();
  // place in `from` of each token that this rank holds in `to`, [l of to]
  const auto coming = from.places().index_select(0, own_rows(to.order(), to, all_.rank()));
  const at::Tensor cuts = at::tensor(from.cuts(), at::kLong).to(coming.device());
  // the rank it comes from, plus 1
  const at::Tensor source = at::searchsorted(cuts, coming, /*out_int32=*/false, /*right=*/true);
  // own place of the i-th received row; its inverse permutation unpacks
  const at::Tensor arrival = at::argsort(source, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  routes_[{from.pattern(), to.pattern()}] = {
      .pack = pack,
      .pack_inverse = at::argsort(pack),
      .unpack = at::argsort(arrival),
      .unpack_inverse = arrival,
      .sent = count_by_rank(sorted_leaving, to),
      .received = count_by_rank(std::get<0>(coming.sort()), from)};
}

const TokenExchange::Route& TokenExchange::route(const Layout& from, const Layout& to) const {
  const auto found = routes_.find({from.pattern(), to.pattern()});
  TORCH_CHECK(found != routes_.end(), "switch_layout: from ", pattern_name(from.pattern()), " to ",
              pattern_name(to.pattern()), " was not announced with add_switch()");
  return found->second;
}

AttentionShards attention_shards(const Layout& layout, Pattern pattern,
                                 const SequenceRanks& ranks) {
  const bool full = pattern == Pattern::kFull;
  const int rank = ranks.all.rank();
  AttentionShards shards{full ? ranks.across : ranks.within, {}, {}};
  const int ulysses = shards.ranks.ulysses.size(), ring = shards.ranks.ring.size();
  // the first of the ranks that compute attention together
  const int first = rank / (ulysses * ring) * (ulysses * ring);
  for (int i = 0; i < ulysses; ++i) {
    shards.tokens.push_back(layout.tokens_of(rank / ulysses * ulysses + i));
  }
  for (int i = 0; i < ring; ++i) {
    const int begin = first + i * ulysses, end = begin + ulysses;
    shards.segments.push_back(full ? std::vector{layout.cuts()[end] - layout.cuts()[begin]}
                                   : layout.pieces(begin, end));
  }
  return shards;
}

}  // namespace ospnext
