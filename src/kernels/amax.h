// Largest magnitudes that the kernel which makes a tensor takes along, for the rounding that follows.
//
// Functions with a parameter `amax` take [B] float32 on the result's device, at least zero, and raise it to the largest
// magnitude of each sample of their result [B, ...], as it is stored; NaN where NaN is. Undefined: nobody asks.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// Largest magnitudes of the rows of x [B, n] floating, n > 0, sought in one pass -> [B] float32.
at::Tensor amax_of_rows(const at::Tensor& x);

// Raises amax, if it is defined, to the largest magnitudes of the samples of x [B, ...] floating.
void raise_amax(const at::Tensor& amax, const at::Tensor& x);

}  // namespace ospnext
