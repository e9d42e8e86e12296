// Reorders the tokens of a video.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// out[:, i] = x[:, index[i]] for a permutation. x [B, L, C]; index [L] int64 and `inverse` [L], the
// permutation that undoes it, on x's device -> [B, L, C]. Differentiable: the gradient is permuted by
// `inverse`, with no scattered additions.
at::Tensor permute_tokens(const at::Tensor& x, const at::Tensor& index, const at::Tensor& inverse);

}  // namespace ospnext
