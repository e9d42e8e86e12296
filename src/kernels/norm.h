// Layer norm and root-mean-square norm over the last dimension.
#pragma once

#include <torch/torch.h>

namespace ospnext {

// x / sqrt(mean(x²) + eps) · weight. x [..., C], weight [C] -> [..., C] of x's dtype; sums in fp32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// (x - mean) / sqrt(variance + eps) · weight + bias. x [..., C], weight and bias [C] -> [..., C] of
// x's dtype; sums in fp32.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps);

}  // namespace ospnext
