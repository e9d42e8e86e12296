// Adaptive layer norm and gated residual: the two operations through which the time step controls a
// block. Shapes that do not fit fail a TORCH_CHECK.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// LN(x)·(1 + scale) + shift, where LN is a layer norm over channels without weights. x [B, L, C];
// shift, scale [B, 1, C] float32, or [B, L, C] for a modulation of each token -> [B, L, C] of x's
// dtype. Statistics and modulation are computed in fp32. `amax`: see kernels/amax.h.
// Differentiable.
at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& shift,
                               const at::Tensor& scale, double eps, const at::Tensor& amax = {});

// x + y·gate, added in fp32 and stored in x's dtype. x, y [B, L, C] of one dtype; gate [B, 1, C] or
// [B, L, C] float32 -> [B, L, C]. Differentiable.
at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate);

}  // namespace ospnext
