// Attention whose result is kept for a second computation of the same block (activation
// checkpointing), which then does not compute it again.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// What the gradient of attention needs besides q, k and v.
struct KeptAttention {
  at::Tensor out;      // [B, L, H, D] of q's dtype; undefined before the first computation
  at::Tensor log_sum;  // [B, L, H] float32: the log of the sum of e^score over the keys
};

// attention() without weights of keys, or segmented_attention() if there are `lengths`. Computes it
// and fills `kept`, or, if `kept` is filled, returns its `out`. Differentiable in q, k and v.
at::Tensor attention_keeping(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const std::vector<int64_t>& lengths, KeptAttention& kept);

}  // namespace ospnext
