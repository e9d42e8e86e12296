// A linear layer on HiFloat8 codes, simulated: their exact values in a matrix product of x's dtype.
#pragma once

#include <torch/torch.h>

namespace ospnext::hif8 {

// (X Wᵀ) / (s_x s_w) + bias, where X are the values of x's codes, scaled to amax_to by the amax of each
// sample, and W those of the weight's. All are exact in bf16, so what is rounded is the sum, in x's dtype,
// and the result, scaled in float32. x [B, ..., in] floating; weight_values [out, in], undivided; bias [out]
// -> [B, ..., out] of x's dtype. Not differentiable.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight_values, float weight_scale,
                  const at::Tensor& bias, double amax_to);

}  // namespace ospnext::hif8
