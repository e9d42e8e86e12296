// Picks and reorders the tokens of a video.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// out[:, i] = x[:, index[i]]. x [B, L, C]; index [l] int64, 0 to L - 1, on x's device -> [B, l, C]. Differentiable.
at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& index);

// The same for a permutation. x [B, L, C]; index [L] int64 and `inverse` [L], the
// permutation that undoes it, on x's device -> [B, L, C]. Differentiable: the gradient is permuted by
// `inverse`, with no scattered additions.
at::Tensor permute_tokens(const at::Tensor& x, const at::Tensor& index, const at::Tensor& inverse);

}  // namespace ospnext
