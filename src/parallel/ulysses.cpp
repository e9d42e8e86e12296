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
    rows.select(3, i).copy_(x[i].unflatten(2, {n, h}).permute({2, 1, 0, 3, 4}));
  }
  const at::Tensor mine =
      group.all_to_all(rows.flatten(0, 1), std::vector<int64_t>(n, l), tokens, "ulysses in")
          .transpose(0, 1);
  return {mine.select(2, 0), mine.select(2, 1), mine.select(2, 2)};  // 3 x [B, L, h, D]
}

at::Tensor heads_to_tokens(const at::Tensor& x, const std::vector<int64_t>& tokens,
                           const ProcessGroup& group) {
  const int64_t n = group.size(), l = tokens[group.rank()];
  if (group.alone()) {
    return x;
  }
  const at::Tensor rows = group.all_to_all(x.transpose(0, 1).contiguous(), tokens,
                                           std::vector<int64_t>(n, l), "ulysses out");
  return rows.unflatten(0, {n, l}).permute({2, 1, 0, 3, 4}).flatten(2, 3);  // [B, l, H, D]
}

}  // namespace ospnext
