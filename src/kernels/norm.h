// Layer norm and root-mean-square norm over the last dimension.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// x / sqrt(mean(x²) + eps) · weight. x [..., C], weight [C] float32 -> [..., C] of x's dtype; sums in
// fp32, differentiable. `amax`: kernels/amax.h.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    const at::Tensor& amax = {});

// rms_norm over all heads together, then rotate_pairs in each of them: what q and k go through before
// they meet. x [B, L, C], weight [C] float32, rotation [L, D/2] complex64, D dividing C -> [B, L, C] of
// x's dtype; computed in fp32, differentiable. `amax`: kernels/amax.h.
at::Tensor rms_norm_rotate(const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& rotation, double eps, const at::Tensor& amax = {});

// out = silu(x / sqrt(mean(x²) + eps) · weight), sums in fp32. x [B, L, C], weight [C] of any float type, out [B, L, C]
// of x's dtype, whose samples may lie apart. Not differentiable.
void rms_norm_silu_out(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps);

// (x - mean) / sqrt(variance + eps) · weight + bias. x [..., C], weight and bias [C] -> [..., C] of
// x's dtype; sums in fp32.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);

}  // namespace ospnext
