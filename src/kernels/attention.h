// Scaled dot-product attention, over all tokens and inside segments.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// softmax(q kᵀ / √D + log_weight) v per sample and head: key s counts as e^log_weight[s] equal ones would.
// q [B, L, H, D]; k, v [B, S, H, D] of q's dtype, finite; log_weight [S] float32, or undefined for zeros ->
// [B, L, H, D]. Softmax and sums are fp32 inside; where ATen computes, log_weight is rounded to q's dtype.
// Differentiable but for log_weight.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_weight = {});

// Attention that stays inside segments: tokens come segment after segment, `lengths` long each
// (zero is allowed; they add up to L). q, k, v [B, L, H, D], finite -> [B, L, H, D].
at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths);

// Heads of tokens that stand for values / scale.
struct ScaledHeads {
  at::Tensor values;  // [B, L, H, D]
  at::Tensor scale;   // [B] float32
};

// What such heads stand for, in `dtype`.
at::Tensor unscaled(const ScaledHeads& x, at::ScalarType dtype);

// The first two for such operands, q and k in float8_e4m3fn and v in that or in `dtype`: segmented if there are
// `lengths`, else with log_weight. On a Hopper GPU, with D = 128 and bf16 as dtype, products of queries and keys run on
// FP8 tensor cores, and those of weights and values too where v is E4M3: weights are then rounded to E4M3, their sum
// taken before. Elsewhere all are divided, and go on, in `dtype`. -> [B, L, H, D] of it. Not differentiable.
// `amax`: kernels/amax.h.
at::Tensor fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         at::ScalarType dtype, const std::vector<int64_t>& lengths = {},
                         const at::Tensor& log_weight = {}, const at::Tensor& amax = {});

}  // namespace ospnext
