// The largest magnitude (amax) of each sample of a tensor, for rounding the tensor to HiF8. The
// kernel that writes a tensor computes its amax in the same pass.
//
// A function with a parameter `amax` raises amax[b] to the largest magnitude in sample b of its
// result [B, ...], as stored: after rounding to the result's dtype. A NaN in a sample makes its
// amax NaN. `amax` is [B] float32 on the result's device, 0 or more before the call. If it is
// undefined, no amax is computed.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// The largest magnitude of each row, in one pass over memory. x [B, n] floating, n > 0 -> [B]
// float32.
at::Tensor amax_of_rows(const at::Tensor& x);

// Raises amax [B] float32 to the largest magnitude of each sample of x [B, ...] floating. Does
// nothing if amax is undefined.
void raise_amax(const at::Tensor& amax, const at::Tensor& x);

}  // namespace ospnext
