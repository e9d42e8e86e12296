#include "parallel/ulysses.h"

namespace ospnext {

std::array<at::Tensor, 3> tokens_to_heads(const std::array<at::Tensor, 3>& x,
                                          const std::vector<int64_t>& tokens,
                                          const ProcessGroup& group) {
  const int64_t n = group.size(), l = tokens[group.rank()];
  if (group.alone()) {
    return x;
  }
  const int64_t B = x[0].size(0), h = x[0].size(2) / n, D = x[0].size(3);
  const at::Tensor rows = at::empty({n, l, B, 3, h, D}, x[0].options());
  for (int64_t i = 0; i < 3; ++i) {
    // b l (n h) d -> n l b h d: the heads of rank r are at rows[r]
    rows.select(3, i).copy_(x[i].unflatten(2, {n, h}).permute({2, 1, 0, 3, 4}));  // [n, l, B, h, D]
  }
  // sends l rows to each rank, receives tokens[r] rows from rank r; then l b 3 h d -> b l 3 h d
  const at::Tensor mine =
      group.all_to_all(rows.flatten(0, 1), std::vector<int64_t>(n, l), tokens, "ulysses in")
          .transpose(0, 1);                                          // [B, L, 3, h, D]
  return {mine.select(2, 0), mine.select(2, 1), mine.select(2, 2)};  // 3 x [B, L, h, D]
}

at::Tensor heads_to_tokens(const at::Tensor& x, const std::vector<int64_t>& tokens,
                           const ProcessGroup& group) {
  const int64_t n = group.size(), l = tokens[group.rank()];
  if (group.alone()) {
    return x;
  }
  // b l h d -> l b h d; sends tokens[r] rows to rank r, receives l rows from each rank
  const at::Tensor rows =
      group.all_to_all(x.transpose(0, 1).contiguous(), tokens, std::vector<int64_t>(n, l),
                       "ulysses out");  // [n·l, B, h, D]
  // (n l) b h d -> b l (n h) d
  return rows.unflatten(0, {n, l}).permute({2, 1, 0, 3, 4}).flatten(2, 3);  // [B, l, H, D]
}

}  // namespace ospnext
