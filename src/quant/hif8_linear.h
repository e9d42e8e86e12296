// Linear layers on HiFloat8 codes: simulated, as a matrix product of the codes' exact values in the
// input's dtype, or on the FP8 tensor cores of a GPU.
#pragma once

#include "core/torch/torch.h"
#include "kernels/residual.h"
#include "quant/hif8_of.h"

namespace ospnext::hif8 {

// How products of HiFloat8 codes are computed.
enum class Products {
  kSimulated,     // in the compute dtype
  kTensorCores,   // on FP8 tensor cores, except attention weights times values: bf16, exact values
  kTensorCoresP8  // all on FP8 tensor cores; attention weights are rounded to E4M3
};

// Whether the device computes in FP8: a CUDA GPU of compute capability 8.9 or higher.
bool has_fp8_tensor_cores(const at::Device& device);

// The rounded input of linear layers. Several layers share one.
struct Input {
  at::Tensor x;        // [B, ..., in] floating: what was rounded, or whose GELU was
  at::Tensor codes;    // [B, ..., in]: the codes' values in x's dtype, or an operand in E4M3
  at::Tensor scale;    // [B] float32: the factor of x in `codes`, 2^4 of an operand included
  at::Tensor inverse;  // [B, 4] float32 for an operand: 1/scale, as scale_to() writes it
  Of of = Of::kItself;
  bool fp8 = false;  // whether `codes` is an operand of FP8 tensor cores
};

// Rounds x [B, ..., in] floating, or its GELU, for `products`, with a scale for each sample that
// takes its amax to `amax_to`, at most kE4m3Amax on tensor cores. `amax` [B] float32 is the amax of
// x or of its GELU, of whole samples if x holds only a part of each; if undefined, it is computed
// here. The GELU is for tensor cores only.
Input round_input(const at::Tensor& x, double amax_to, Products products,
                  const at::Tensor& amax = {}, Of of = Of::kItself);

// A weight as an operand of FP8 tensor cores: values of codes [out, in], not divided by their scale
// -> float8_e4m3fn [out, in], the values times 2^4.
at::Tensor fp8_weight(const at::Tensor& weight_values);

// (X Wᵀ) / (s_x s_w) + bias, added to `residual` if that has an x. X and W are the values of the
// codes of the input and of the weight, s_x and s_w = weight_scale their scales. weight [out, in]
// holds W, or fp8_weight(W) if in.fp8; bias [out] -> [B, ..., out] of x's dtype.
//
// Simulated: X and W are exact in bf16. Two roundings to x's dtype remain: of the sum, and of the
// result, which is scaled in float32.
// On tensor cores: in and out are multiples of 16, x is bf16, or float32 where the device supports
// it. Products are summed in float32 and rounded once. Hopper's tensor cores keep sums with about
// 14 bits, so these are added to a float32 sum every 128 products. With Epilogue::kFused in bf16 on
// CUDA, a residual without a gate is added in the epilogue. Slow on the CPU.
//
// Differentiable in x, bias and residual: the gradient passes through the rounding as if it were
// not there (straight-through). The weight gets none.
at::Tensor linear(const Input& in, const at::Tensor& weight, float weight_scale,
                  const at::Tensor& bias, Epilogue epilogue, const Residual& residual = {});

}  // namespace ospnext::hif8
