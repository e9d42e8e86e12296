// Rotary position embedding: rotates adjacent pairs of channels by an angle per token.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// Multiplies each pair (2j, 2j+1) of every head, as a complex number, by rotation[token, j].
// x [B, L, H, D]; rotation [L, D/2] complex64, numbers of magnitude 1 -> [B, L, H, D] of x's dtype.
// Computed in fp32. Differentiable. Source: Wan2.1 wan/modules/model.py:rope_apply.
at::Tensor rotate_pairs(const at::Tensor& x, const at::Tensor& rotation);

}  // namespace ospnext
