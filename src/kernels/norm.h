// Layer norm and root-mean-square norm over the last dimension. Shapes that do not fit fail a
// TORCH_CHECK.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// x / sqrt(mean(x²) + eps) · weight. x [..., C], weight [C] float32 -> [..., C] of x's dtype. Sums
// are fp32. `amax`: see kernels/amax.h. Differentiable.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    const at::Tensor& amax = {});

// rms_norm() over all heads together, then rotate_pairs() in each head: the preparation of q and k
// for attention. x [B, L, C], weight [C] float32, rotation [L, D/2] complex64 where D divides C ->
// [B, L, C] of x's dtype. Computed in fp32. `amax`: see kernels/amax.h. Differentiable.
at::Tensor rms_norm_rotate(const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& rotation, double eps, const at::Tensor& amax = {});

// out = silu(x / sqrt(mean(x²) + eps) · weight). x [B, L, C], weight [C] of any float type, out
// [B, L, C] of x's dtype; out may have any stride between samples. Sums are fp32. Not
// differentiable.
void rms_norm_silu_out(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps);

// (x - mean) / sqrt(variance + eps) · weight + bias. x [..., C], weight and bias [C] -> [..., C] of
// x's dtype. Sums are fp32. Differentiable.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);

}  // namespace ospnext
