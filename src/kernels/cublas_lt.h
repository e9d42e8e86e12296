// Matrix products by cuBLASLt with bias and residual in the epilogue, in bf16 and FP8. ATen does
// not offer this combination. Only in builds with CUDA.
//
// A product is [M, K] x [K, N].
#pragma once

#include "core/torch/torch.h"

namespace ospnext::cuda {

// The operands of lt_product(). All tensors are contiguous and aligned to 16 bytes.
struct LtProduct {
  at::Tensor x, weight;  // [M, K], [N, K]: both bf16, or both float8_e4m3fn
  at::Tensor bias = {};  // [N] bf16, or undefined
  // Factors of E4M3 x, float32 on the device: one, or one of each row [M]; undefined: 1.
  at::Tensor x_scale = {};
  float weight_scale = 1;  // factor of the weight
  bool adds = false;       // whether the product is added to the output
};

// Whether lt_product() takes x [..., K] and weight [N, K] in bf16: on a GPU, not empty, K and N
// multiples of 8.
bool lt_takes(const at::Tensor& x, const at::Tensor& weight);

// out [M, N] bf16 = x Wᵀ · x_scale · weight_scale + bias, plus out if product.adds. Summed in fp32
// and rounded once. Adding in place is almost free; adding from another tensor makes FP8 products a
// quarter slower. E4M3 products are accumulated in fp32 at least every 128 elements of K ("fast
// accumulation" is off); K and N must then be multiples of 16. Throws c10::Error if cuBLASLt fails
// or has no algorithm for the shape.
void lt_product(const at::Tensor& out, const LtProduct& product);

}  // namespace ospnext::cuda
