// Ring attention: keys and values travel around the ranks, whose queries stay.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/process_group.h"

namespace ospnext {

// Attention inside segments of which rank r of the ring holds segments[r], lengths that may be zero. q, k, v
// [B, l, H, D] of this rank's tokens -> [B, l, H, D] of q's dtype. Partial results are joined in float32. The next
// keys and values travel while those at hand are attended to.
// Source: Liu et al., Ring Attention, 2023.
at::Tensor ring_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<std::vector<int64_t>>& segments,
                          const ProcessGroup& ring);

}  // namespace ospnext
