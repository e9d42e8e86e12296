#include "parallel/ulysses.h"

namespace ospnext {

std::array<at::Tensor, 3> tokens_to_heads(const std::array<at::Tensor, 3>& x,
                                          const std::vector<int64_t>& tokens,
                                          const ProcessGroup& group) {
  const int64_t n = group.size(), l = tokens[group.rank()];
  if (n == 1) {
    return x;
  }
  const at::Tensor packed =
      at::stack({x[0], x[1], x[2]}).unflatten(3, {n, -1});                   // [3, B, l, n, h, D]
  const at::Tensor rows = packed.permute({3, 2, 1, 0, 4, 5}).flatten(0, 1);  // [n·l, B, 3, h, D]
  const at::Tensor mine =
      group.all_to_all(rows, std::vector<int64_t>(n, l), tokens, "ulysses in").transpose(0, 1);
  return {mine.select(2, 0), mine.select(2, 1), mine.select(2, 2)};  // 3 x [B, L, h, D]
}

at::Tensor heads_to_tokens(const at::Tensor& x, const std::vector<int64_t>& tokens,
                           const ProcessGroup& group) {
  const int64_t n = group.size(), l = tokens[group.rank()];
  if (n == 1) {
    return x;
  }
  const at::Tensor rows = group.all_to_all(x.transpose(0, 1).contiguous(), tokens,
                                           std::vector<int64_t>(n, l), "ulysses out");
  return rows.unflatten(0, {n, l}).permute({2, 1, 0, 3, 4}).flatten(2, 3);  // [B, l, H, D]
}

}  // namespace ospnext
