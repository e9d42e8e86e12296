// Scaled dot-product attention over all tokens or inside segments.
//
// S is the number of key tokens. Shapes that do not fit fail a TORCH_CHECK.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// softmax(q kᵀ / √D + log_weight) v per sample and head: key s counts like e^log_weight[s] equal
// keys. q [B, L, H, D]; k, v [B, S, H, D] of q's dtype, finite; log_weight [S] float32, or
// undefined for zeros -> [B, L, H, D] of q's dtype. The softmax and the sums are computed in fp32.
// Where ATen computes, log_weight is rounded to q's dtype. Differentiable in q, k and v.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_weight = {});

// Attention inside segments: a query attends only to the keys of its own segment. The tokens of a
// segment are contiguous; `lengths` has the number of tokens of each segment (0 is allowed) and
// adds up to L. q, k, v [B, L, H, D] of one dtype, finite -> [B, L, H, D]. Differentiable.
at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths);

// Heads of tokens, stored multiplied by a scale per sample: they represent values / scale.
struct ScaledHeads {
  at::Tensor values;  // [B, L, H, D]
  at::Tensor scale;   // [B] float32
};

// values / scale, divided in float32 and rounded to `dtype`. -> [B, L, H, D]
at::Tensor unscaled(const ScaledHeads& x, at::ScalarType dtype);

// Attention of scaled heads: segmented_attention() if there are `lengths`, else attention() with
// log_weight. q and k are float8_e4m3fn, v is float8_e4m3fn or `dtype`. -> [B, L, H, D] of `dtype`.
// `amax`: see kernels/amax.h. Not differentiable.
//
// On a Hopper GPU, with D = 128 and dtype bf16, the products of queries and keys run on FP8 tensor
// cores. If v is E4M3, the products of weights and values do too: the softmax weights are then
// rounded to E4M3, after their sum was taken. Elsewhere q, k and v are divided by their scales, and
// attention runs in `dtype`.
at::Tensor fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         at::ScalarType dtype, const std::vector<int64_t>& lengths = {},
                         const at::Tensor& log_weight = {}, const at::Tensor& amax = {});

}  // namespace ospnext
