// Attention to some of the keys at a time, with what is needed to join the parts.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

struct PartialAttention {
  at::Tensor out;  // [B, L, H, D] float32; zero where there was no key
  at::Tensor
      log_sum;  // [B, L, H] float32: log of the sum of e^score; -infinity where there was no key
};

// Segment s of the queries, q_lengths[s] tokens long, attends to segment s of the keys, k_lengths[s] long; both
// may be empty. q [B, L, H, D]; k, v [B, S, H, D] of its dtype, finite. A part is rounded to q's dtype, as
// the kernels of attention() do it.
PartialAttention partial_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const std::vector<int64_t>& q_lengths,
                                   const std::vector<int64_t>& k_lengths);

// Attention to the keys of both, in float32. Source: Liu et al., Ring Attention, 2023.
PartialAttention join(const PartialAttention& a, const PartialAttention& b);

}  // namespace ospnext
