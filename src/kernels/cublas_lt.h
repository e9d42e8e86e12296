// Matrix products by cuBLASLt with what ATen does not offer together: bias and residual in the epilogue, FP8 included.
// For builds with CUDA only.
#pragma once

#include "core/torch/torch.h"

namespace ospnext::cuda {

// What lt_product() multiplies; all tensors packed, with 16-byte aligned memory.
struct LtProduct {
  at::Tensor x, weight;     // [M, K], [N, K]: both bf16, or both float8_e4m3fn
  at::Tensor bias;          // [N] bf16
  at::Tensor x_scale = {};  // float32 on the device, one number: E4M3's factor of x
  float weight_scale = 1;   // and of the weight
  bool adds = false;        // to what the output holds
};

// Whether x [..., K] and weight [N, K] are what lt_product() takes as bf16: on a GPU, not empty, K and N multiples of 8.
bool lt_takes(const at::Tensor& x, const at::Tensor& weight);

// out [M, N] bf16 = x Wᵀ · scales + bias, plus itself if the product adds, summed in fp32 and rounded once. Adding in place
// costs next to nothing; from another tensor FP8 products take a quarter longer. E4M3 products are added up in fp32 at
// least every 128 of K ("fast accumulation" off); K and N are multiples of 16 then.
void lt_product(const at::Tensor& out, const LtProduct& product);

}  // namespace ospnext::cuda
