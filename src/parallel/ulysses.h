// Ulysses attention: outside attention each rank holds a part of the tokens with all heads. One
// all-to-all before attention gives each rank all tokens with a part of the heads; a second one
// after attention reverses this. Source: Jacobs et al., DeepSpeed Ulysses, 2023.
// Letters: B batch, n ranks of the group, l tokens of this rank, L tokens of all n ranks, H heads,
// h = H/n heads of one rank, D head width.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "parallel/process_group.h"

namespace ospnext {

// Both functions are differentiable: the gradient of one is the exchange of the other.

// Exchanges queries, keys and values with one all-to-all. x: 3 tensors [B, l, H, D] ->
// 3 tensors [B, L, h, D]. Rank r of the group holds tokens[r] of the L tokens, so l =
// tokens[group.rank()]. H is a multiple of n.
std::array<at::Tensor, 3> tokens_to_heads(const std::array<at::Tensor, 3>& x,
                                          const std::vector<int64_t>& tokens,
                                          const ProcessGroup& group);

// Reverses tokens_to_heads() for one tensor. x [B, L, h, D] -> [B, l, H, D].
at::Tensor heads_to_tokens(const at::Tensor& x, const std::vector<int64_t>& tokens,
                           const ProcessGroup& group);

}  // namespace ospnext
