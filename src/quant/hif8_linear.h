// Linear layers on HiFloat8 codes: simulated, as a matrix product of the codes' exact values in x's
// dtype, or on the FP8 tensor cores of a GPU.
#pragma once

#include "core/torch/torch.h"
#include "kernels/residual.h"

namespace ospnext::hif8 {

// (X Wᵀ) / (s_x s_w) + bias, where X and W are the values of the codes of x and of the weight. x
// [B, ..., in] floating; weight_values [out, in] is W, not divided by s_w = weight_scale; bias
// [out] -> [B, ..., out] of x's dtype. s_x scales the amax of each sample of x to amax_to. `amax`
// [B] float32 replaces it if x holds only a part of each sample.
//
// X and W are exact in bf16. Two roundings to x's dtype remain: of the sum, and of the result,
// which is scaled in float32. Not differentiable.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight_values, float weight_scale,
                  const at::Tensor& bias, double amax_to, const at::Tensor& amax = {});

// Whether the device computes in FP8: a CUDA GPU of compute capability 8.9 or higher.
bool has_fp8_tensor_cores(const at::Device& device);

// The input of a linear layer as an operand of FP8 tensor cores.
struct Fp8Input {
  at::Tensor codes;      // [B, ..., in] float8_e4m3fn (encode_e4m3())
  at::Tensor scale;      // [B] float32, the factor of x in the codes, including 2^4
  at::ScalarType dtype;  // dtype of x and of the layer's output
};

// Rounds x [B, ..., in] floating, or its GELU, with a scale for each sample that takes its amax to
// amax_to <= kE4m3Amax. `amax` [B] float32 is the amax of x or of its GELU, of whole samples if x
// holds only a part of each; if undefined, it is computed here.
Fp8Input fp8_input(const at::Tensor& x, double amax_to, const at::Tensor& amax = {});
Fp8Input fp8_input_of_gelu(const at::Tensor& x, double amax_to, const at::Tensor& amax = {});

// A weight as the other operand: values of codes [out, in], not divided by their scale ->
// float8_e4m3fn [out, in], the values times 2^4.
at::Tensor fp8_weight(const at::Tensor& weight_values);

// The product of linear() on FP8 tensor cores, added to `residual` if there is one. `weight` comes
// from fp8_weight(), bias [out]; in and out are multiples of 16 -> [B, ..., out] of x.dtype: bf16,
// or float32 where the device supports it. For CUDA from sm_89; slow on the CPU.
//
// Products are summed in float32 and rounded once. Hopper's tensor cores keep sums with about 14
// bits, so these are added to a float32 sum every 128 products. In bf16 on CUDA, a residual without
// a gate is added in the epilogue.
at::Tensor fp8_linear(const Fp8Input& x, const at::Tensor& weight, float weight_scale,
                      const at::Tensor& bias, const Residual& residual = {});

}  // namespace ospnext::hif8
