// Rotary position embedding: turns adjacent pairs of channels by an angle per token.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// Pair (2j, 2j+1) of every head, read as a complex number, times rotation[token, j].
// x [B, L, H, D]; rotation [L, D/2] complex64 of length-1 numbers -> [B, L, H, D] of x's dtype,
// computed in fp32; differentiable. Source: Wan2.1 wan/modules/model.py:rope_apply.
at::Tensor rotate_pairs(const at::Tensor& x, const at::Tensor& rotation);

}  // namespace ospnext
