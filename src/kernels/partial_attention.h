// Attention to a part of the keys at a time, and the join of such parts. S is the number of key
// tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// Attention of all queries to a part of the keys.
struct PartialAttention {
  at::Tensor out;  // [B, L, H, D] float32; 0 for a query without keys
  // [B, L, H] float32: the log of the sum of e^score over the keys; -infinity without keys
  at::Tensor log_sum;
};

// Attention of queries in segment s to the keys in segment s. q_lengths[s] and k_lengths[s] are the
// tokens of these segments, and either may be 0. q [B, L, H, D]; k, v [B, S, H, D] of q's dtype,
// finite. The result is rounded to q's dtype, as the kernels of attention() round it, and then
// stored in float32. Lengths that do not add up to L and S fail a TORCH_CHECK.
PartialAttention partial_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const std::vector<int64_t>& q_lengths,
                                   const std::vector<int64_t>& k_lengths);

// The gradients of q, k and v, [B, L, H, D] and twice [B, S, H, D], of q's dtype.
struct AttentionGradients {
  at::Tensor query, key, value;
};

// The gradients of attention that come through a part of its keys. `out` [B, L, H, D] of q's dtype
// and `log_sum` [B, L, H] float32 belong to attention to all keys; `grad` is the gradient of `out`.
// The gradients of queries add up over the parts. All else as in partial_attention().
AttentionGradients partial_attention_gradients(const at::Tensor& grad, const at::Tensor& q,
                                               const at::Tensor& k, const at::Tensor& v,
                                               const at::Tensor& out, const at::Tensor& log_sum,
                                               const std::vector<int64_t>& q_lengths,
                                               const std::vector<int64_t>& k_lengths);

// Attention to the keys of a and those of b together, computed in float32. Source: Liu et al., Ring
// Attention, 2023.
PartialAttention join(const PartialAttention& a, const PartialAttention& b);

}  // namespace ospnext
