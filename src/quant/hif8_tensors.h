// Tensors as HiFloat8 codes: amax, scale, and casts to codes and back.
//
// amax is the largest |x| of a tensor or of one sample of a batch. The scale is
// s = amax_to / max(amax, 1e-8), and the codes are those of x·s, all in float32. A code represents
// its value divided by s. Codes are the same on every device; with scales per sample, they are the
// same in any batch. Tensors may be empty. Nothing here is differentiable. Wrong dtypes and shapes
// fail a TORCH_CHECK.
#pragma once

#include "core/torch/torch.h"
#include "quant/hif8.h"
#include "quant/hif8_of.h"

namespace ospnext::hif8 {

inline constexpr double kForwardAmax = 15;    // amax_to of weights and activations
inline constexpr double kBackwardAmax = 224;  // amax_to of gradients
inline constexpr double kE4m3Amax = 28;       // largest amax_to for E4M3: 448 / 2^4
inline constexpr double kAmaxFloor = 1e-8;

// The largest magnitude in float32: of a whole tensor, as a scalar, or of each sample of x [B, ...]
// or its GELU (rounded to x's dtype), as [B]. 0 if there are no elements, NaN if there is a NaN. x
// is float32, bf16 or float16.
at::Tensor amax_of_tensor(const at::Tensor& x);
at::Tensor amax_of_samples(const at::Tensor& x, Of of = Of::kItself);

// amax_to / max(amax, kAmaxFloor), float32 of amax's shape. amax: float32. `inverse`, if defined,
// [n, 4] float32 for amax [n], receives 1/scale four times a row: cuBLAS reads a scale at a
// multiple of 16 bytes.
at::Tensor scale_to(double amax_to, const at::Tensor& amax, const at::Tensor& inverse = {});
// The scale [B] of each sample of x [B, ...] or its GELU. `amax` [B] float32 is the amax of the
// samples, of whole samples if x holds only a part of each; if undefined, it is computed here.
at::Tensor scale_of_samples(const at::Tensor& x, double amax_to, const at::Tensor& amax = {},
                            Of of = Of::kItself);

// In the next four functions, x is float32, bf16 or float16. `scale` is float32 on x's device: a
// scalar or undefined (1) for the whole tensor, or [B] for the samples of x [B, ...].

// Codes of x·scale: uint8 of x's shape.
at::Tensor encode(const at::Tensor& x, const at::Tensor& scale = {},
                  Overflow overflow = Overflow::kInfinity);

// x·scale or GELU(x)·scale as an operand of FP8 tensor cores, float8_e4m3fn of x's shape: rounded
// to 2^4 times the values of codes. `scale` includes this factor. e4m3.h says which codes are
// exact. x·scale or GELU(x)·scale must be at most 2^4·kE4m3Amax.
at::Tensor encode_e4m3(const at::Tensor& x, const at::Tensor& scale, Of of = Of::kItself);

// The values of the codes of x·scale, not divided by scale, in x's shape and dtype. Every dtype
// represents all HiF8 values from 2^-22 to 2^15 exactly.
at::Tensor code_values(const at::Tensor& x, const at::Tensor& scale = {},
                       Overflow overflow = Overflow::kInfinity);

// The values of codes (uint8) divided by scale, computed in float32 and rounded to `dtype`.
at::Tensor decode(const at::Tensor& codes, const at::Tensor& scale = {},
                  at::ScalarType dtype = at::kFloat);

// x [B, ...] rounded to HiF8, in x's shape and dtype: the values of its codes, divided by the scale
// of each sample. `amax` as in scale_of_samples().
at::Tensor round_samples(const at::Tensor& x, double amax_to = kForwardAmax,
                         const at::Tensor& amax = {});

}  // namespace ospnext::hif8
