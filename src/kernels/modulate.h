// Adaptive layer norm and gated residual: the two places where the time step steers a block.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// LN(x)·(1 + scale) + shift, LN over channels without weights. x [B, L, C]; shift, scale [B, 1, C]
// float32 -> [B, L, C] of x's dtype. Statistics and modulation are fp32; differentiable. `amax`: kernels/amax.h.
at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& shift,
                               const at::Tensor& scale, double eps, const at::Tensor& amax = {});

// x + y·gate, added in fp32 and stored in x's dtype. x, y [B, L, C] of one dtype; gate [B, 1, C]
// float32 -> [B, L, C]. Differentiable.
at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate);

}  // namespace ospnext
