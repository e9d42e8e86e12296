// Ring attention: queries stay on their rank, keys and values are passed around the ring of ranks.
// Letters: B batch, l tokens of one rank, H heads, D head width.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kept_attention.h"
#include "parallel/process_group.h"

namespace ospnext {

// Attention inside segments that are divided among the ranks of the ring: segments[r][s] is the
// number of tokens of segment s on rank r, possibly zero. q, k, v: this rank's tokens, [B, l, H, D]
// -> [B, l, H, D] in q's dtype. The partial results are accumulated in float32. The transfer of the
// next keys and values overlaps with attention to the current ones. Differentiable: in the backward
// pass keys and values go round again, and their gradients with them.
// `kept`, if given, is used as in attention_keeping(). Source: Liu et al., Ring Attention, 2023.
at::Tensor ring_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<std::vector<int64_t>>& segments,
                          const ProcessGroup& ring, KeptAttention* kept = nullptr);

}  // namespace ospnext
