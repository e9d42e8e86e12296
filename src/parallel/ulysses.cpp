#include "parallel/ulysses.h"

#include <torch/autograd.h>

#include "core/torch/kept_value.h"

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The ranks that divide the heads, and how many tokens each of them has otherwise.
struct Ranks {
  ProcessGroup group;
  std::vector<int64_t> tokens;
  int64_t own() const { return tokens[group.rank()]; }
};

// k tensors [B, l, H, D] -> k tensors [B, L, h, D], by one all-to-all.
variable_list spread_heads(const variable_list& x, const Ranks& ranks) {
  const auto k = static_cast<int64_t>(x.size());
  const int64_t n = ranks.group.size(), l = ranks.own();
  const int64_t B = x[0].size(0), h = x[0].size(2) / n, D = x[0].size(3);
  const at::Tensor rows = at::empty({n, l, B, k, h, D}, x[0].options());
  for (int64_t i = 0; i < k; ++i) {
    // b l (n h) d -> n l b h d: the heads of rank r are at rows[r]
    rows.select(3, i).copy_(x[i].unflatten(2, {n, h}).permute({2, 1, 0, 3, 4}));  // [n, l, B, h, D]
  }
  // sends l rows to each rank, receives tokens[r] rows from rank r; then l b k h d -> b l k h d
  const at::Tensor mine =
      ranks.group
          .all_to_all(rows.flatten(0, 1), std::vector<int64_t>(n, l), ranks.tokens, "ulysses in")
          .transpose(0, 1);  // [B, L, k, h, D]
  return mine.unbind(2);     // k x [B, L, h, D]
}

// The opposite: k tensors [B, L, h, D] -> k tensors [B, l, H, D].
variable_list join_heads(const variable_list& x, const Ranks& ranks) {
  const int64_t n = ranks.group.size(), l = ranks.own();
  // b l h d -> l k b h d
  const at::Tensor rows = (x.size() == 1 ? x[0].unsqueeze(0) : at::stack(x))  // [k, B, L, h, D]
                              .permute({2, 0, 1, 3, 4})                       // [L, k, B, h, D]
                              .contiguous();
  // sends tokens[r] rows to rank r, receives l rows from each rank
  const at::Tensor mine = ranks.group.all_to_all(rows, ranks.tokens, std::vector<int64_t>(n, l),
                                                 "ulysses out");  // [n·l, k, B, h, D]
  // (n l) k b h d -> k b l (n h) d
  return mine.unflatten(0, {n, l})
      .permute({2, 3, 1, 0, 4, 5})  // [k, B, l, n, h, D]
      .flatten(3, 4)                // [k, B, l, H, D]
      .unbind(0);
}

struct TokensToHeads : torch::autograd::Function<TokensToHeads> {
  static variable_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const Ranks& ranks) {
    context->saved_data["ranks"] = keep_value(ranks);
    return spread_heads({q, k, v}, ranks);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    variable_list by_x = join_heads(gradients, kept_value<Ranks>(context->saved_data["ranks"]));
    by_x.emplace_back();
    return by_x;
  }
};

struct HeadsToTokens : torch::autograd::Function<HeadsToTokens> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Ranks& ranks) {
    context->saved_data["ranks"] = keep_value(ranks);
    return join_heads({x}, ranks)[0];
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {spread_heads(gradients, kept_value<Ranks>(context->saved_data["ranks"]))[0], {}};
  }
};

}  // namespace

std::array<at::Tensor, 3> tokens_to_heads(const std::array<at::Tensor, 3>& x,
                                          const std::vector<int64_t>& tokens,
                                          const ProcessGroup& group) {
  if (group.alone()) {
    return x;
  }
  const variable_list heads = TokensToHeads::apply(x[0], x[1], x[2], Ranks{group, tokens});
  return {heads[0], heads[1], heads[2]};  // 3 x [B, L, h, D]
}

at::Tensor heads_to_tokens(const at::Tensor& x, const std::vector<int64_t>& tokens,
                           const ProcessGroup& group) {
  return group.alone() ? x : HeadsToTokens::apply(x, Ranks{group, tokens});
}

}  // namespace ospnext
