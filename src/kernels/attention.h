// Scaled dot-product attention, over all tokens and inside segments.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace ospnext {

// softmax(q kᵀ / √D) v per sample and head, without a mask. q [B, L, H, D]; k, v [B, S, H, D] of q's
// dtype -> [B, L, H, D]. Softmax and sums are fp32 inside; differentiable.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Attention to S - 2 keys and `padding` more that are all equal: the last two rows of k and v, which are
// the same, stand for these (0: for themselves). Costs S keys whatever `padding` is. Shapes as above.
at::Tensor attention_with_padding(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  int64_t padding);

// Attention that stays inside segments: tokens come segment after segment, `lengths` long each
// (zero is allowed; they add up to L). q, k, v [B, L, H, D] -> [B, L, H, D].
at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths);

}  // namespace ospnext
