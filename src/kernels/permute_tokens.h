// Gathers and permutes the tokens of a video.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// out[:, i] = x[:, index[i]]. x [B, L, C]; index [l] int64, 0 to L - 1, on x's device -> [B, l, C]
// of x's dtype. Differentiable.
at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& index);

// The same for a permutation. x [B, L, C]; index and inverse [L] int64 on x's device, where
// `inverse` undoes `index` -> [B, L, C]. Differentiable: the gradient is gathered with `inverse`,
// so it needs no scattered additions.
at::Tensor permute_tokens(const at::Tensor& x, const at::Tensor& index, const at::Tensor& inverse);

}  // namespace ospnext
