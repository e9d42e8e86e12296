// The functions of attention.h on our own kernel for Hopper GPUs. Only in builds with CUDA.
//
// S is the number of key tokens.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "kernels/attention.h"
#include "kernels/partial_attention.h"

namespace ospnext::cuda {

// Whether the kernel takes q, k and v: bf16, heads of 128 channels, on one Hopper GPU.
bool takes_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
// The same for E4M3 queries and keys, E4M3 or bf16 values, and `dtype` bf16.
bool takes_fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         at::ScalarType dtype);
// Whether the kernel takes this many segments: at most kMaxAttentionSegments.
bool takes_segments(const std::vector<int64_t>& lengths);

// softmax(q kᵀ / √128 + log_weight) v. q [B, L, H, 128]; k, v [B, S, H, 128], all bf16; log_weight
// [S] float32, or undefined for zeros -> [B, L, H, 128] bf16. Views of one packed tensor are read
// without a copy. Differentiable in q, k and v: where a gradient is wanted, the kernel also stores
// the log of the sum of each query, and the gradient comes from ATen's functions (cuDNN where it
// takes the segment), which compute the weights again from it. The result is the same either way.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_weight = {});

// attention() without log_weight, or segmented_attention() if there are `lengths`, and for each
// query log Σ exp(q·k / √128) over its keys. -> [B, L, H, 128] bf16, [B, L, H] float32. Not
// differentiable.
std::pair<at::Tensor, at::Tensor> attention_and_log_sum(const at::Tensor& q, const at::Tensor& k,
                                                        const at::Tensor& v,
                                                        const std::vector<int64_t>& lengths = {});

// The gradients of q, k and v from the gradient of attention, its result `out` [B, L, H, 128] bf16
// and its log_sum [B, L, H], by ATen. Not empty.
AttentionGradients attention_gradients(const at::Tensor& grad, const at::Tensor& q,
                                       const at::Tensor& k, const at::Tensor& v,
                                       const at::Tensor& out, const at::Tensor& log_sum);

// q, k, v [B, L, H, 128] bf16, `lengths` as in attention.h -> [B, L, H, 128] bf16. Differentiable
// as attention().
at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths);

// fp8_attention() of attention.h with dtype bf16. -> [B, L, H, 128] bf16.
at::Tensor fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         const std::vector<int64_t>& lengths, const at::Tensor& log_weight,
                         const at::Tensor& amax);

}  // namespace ospnext::cuda
