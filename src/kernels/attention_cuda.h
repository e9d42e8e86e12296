// Attention by our own kernel for Hopper GPUs; for builds with CUDA only. attention.h says what is computed.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "kernels/attention.h"

namespace ospnext::cuda {

// Whether the kernel takes these: bf16, heads of 128 channels, on a Hopper GPU, and no gradient is wanted.
bool takes_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
// The same for queries and keys in E4M3, values in E4M3 or bf16, and bf16 as dtype of the result.
bool takes_fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         at::ScalarType dtype);
// Whether it takes that many segments.
bool takes_segments(const std::vector<int64_t>& lengths);

// softmax(q kᵀ / √128 + log_weight) v. q [B, L, H, 128]; k, v [B, S, H, 128]; log_weight [S] float32, or
// undefined for zeros -> [B, L, H, 128]. Views of one packed tensor are read in place.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_weight = {});

// attention(), and of each query the logarithm of the sum of its weights: [B, L, H, 128] bf16, [B, L, H] float32.
std::pair<at::Tensor, at::Tensor> attention_and_log_sum(const at::Tensor& q, const at::Tensor& k,
                                                        const at::Tensor& v);

// q, k, v [B, L, H, 128], `lengths` as in attention.h -> [B, L, H, 128].
at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths);

// fp8_attention() of attention.h.
at::Tensor fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         const std::vector<int64_t>& lengths, const at::Tensor& log_weight,
                         const at::Tensor& amax);

}  // namespace ospnext::cuda
