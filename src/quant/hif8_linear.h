// Linear layers on HiFloat8 codes: simulated, their exact values in a matrix product of x's dtype, or on the FP8
// tensor cores of a GPU.
#pragma once

#include "core/torch/torch.h"
#include "kernels/residual.h"

namespace ospnext::hif8 {

// (X Wᵀ) / (s_x s_w) + bias, where X are the values of x's codes, scaled to amax_to by the amax of each
// sample (or `amax` [B], where x holds only parts of them), and W those of the weight's. All are exact in bf16, so what is rounded is the sum, in x's dtype,
// and the result, scaled in float32. x [B, ..., in] floating; weight_values [out, in], undivided; bias [out]
// -> [B, ..., out] of x's dtype. Not differentiable.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight_values, float weight_scale,
                  const at::Tensor& bias, double amax_to, const at::Tensor& amax = {});

// Whether the device computes in FP8: a CUDA GPU of compute capability 8.9 or higher.
bool has_fp8_tensor_cores(const at::Device& device);

// An input as operand of FP8 tensor cores.
struct Fp8Input {
  at::Tensor codes;      // [B, ..., in] float8_e4m3fn (encode_e4m3())
  at::Tensor scale;      // [B] float32, what x was multiplied with, 2^4 included
  at::ScalarType dtype;  // of x and of what is made from it
};

// x [B, ..., in], or its GELU, rounded, scaled to amax_to <= kE4m3Amax by the amax of each sample: `amax` [B] float32
// where it is known, as above; else it is sought here.
Fp8Input fp8_input(const at::Tensor& x, double amax_to, const at::Tensor& amax = {});
Fp8Input fp8_input_of_gelu(const at::Tensor& x, double amax_to, const at::Tensor& amax = {});

// A weight as the other operand: values of codes [out, in], undivided -> float8_e4m3fn, times 2^4.
at::Tensor fp8_weight(const at::Tensor& weight_values);

// The same product on FP8 tensor cores, summed in float32 (Hopper's own accumulators, of some 14 bits, are
// added up every 128 products) and rounded once, to x's dtype: bf16, or float32 where the device has it. weight
// of fp8_weight(); in and out are multiples of 16. CUDA from sm_89; on the CPU slowly. Added to `residual`, in bf16 on CUDA
// in the epilogue, if it has no gate. -> [B, ..., out].
at::Tensor fp8_linear(const Fp8Input& x, const at::Tensor& weight, float weight_scale,
                      const at::Tensor& bias, const Residual& residual = {});

}  // namespace ospnext::hif8
