// Tensors as HiFloat8 codes: amax, scale, and the casts there and back.
//
// The contract is the codes: with amax the largest |x| of a tensor, or of one sample of a batch, s =
// amax_to / max(amax, 1e-8) and codes of x·s, all in float32. A code stands for its value divided by s. Codes
// are the same on every device, and per sample also for any batch a sample is part of. Tensors may be
// empty. Nothing here is differentiable.
#pragma once

#include "core/torch/torch.h"
#include "quant/hif8.h"
#include "quant/hif8_of.h"

namespace ospnext::hif8 {

inline constexpr double kForwardAmax = 15;    // what weights and activations are scaled to
inline constexpr double kBackwardAmax = 224;  // what gradients are scaled to
inline constexpr double kE4m3Amax = 28;       // what E4M3 holds at most, 448 / 2^4
inline constexpr double kAmaxFloor = 1e-8;

// The largest magnitude, float32: of the tensor [], or of each sample of x [B, ...] or its GELU (in x's dtype) as [B].
// 0 where nothing is; NaN where NaN is. x floating, at most float32.
at::Tensor amax_of_tensor(const at::Tensor& x);
at::Tensor amax_of_samples(const at::Tensor& x, Of of = Of::kItself);

// amax_to / max(amax, kAmaxFloor), float32 of amax's shape.
at::Tensor scale_to(double amax_to, const at::Tensor& amax);
// The same of the samples of x [B, ...] or its GELU, [B]. `amax` [B]: known to be theirs, or, where x holds parts of
// samples, that of the whole; undefined: sought here.
at::Tensor scale_of_samples(const at::Tensor& x, double amax_to, const at::Tensor& amax = {},
                            Of of = Of::kItself);

// In the four below x is float32, bf16 or float16; `scale` is float32 on its device: [] or undefined (1)
// for the whole tensor, or [B] for the samples of x [B, ...].

// Codes of x·scale: uint8 of x's shape.
at::Tensor encode(const at::Tensor& x, const at::Tensor& scale = {},
                  Overflow overflow = Overflow::kInfinity);

// The codes of x·scale, or GELU(x)·scale, as operands of FP8 tensor cores: what they are worth times 2^4, in E4M3
// (e4m3.h says which are exact). float8_e4m3fn of x's shape; what is rounded is at most kE4m3Amax.
at::Tensor encode_e4m3(const at::Tensor& x, const at::Tensor& scale, Of of = Of::kItself);

// What the codes of x·scale are worth, not divided by it: of x's shape and dtype, which holds every value
// down to 2^-22 exactly (float16: to 2^-22 as well, but 2^15 at most, as HiF8).
at::Tensor code_values(const at::Tensor& x, const at::Tensor& scale = {},
                       Overflow overflow = Overflow::kInfinity);

// Values of codes (uint8) divided by scale, in float32 and then as `dtype`.
at::Tensor decode(const at::Tensor& codes, const at::Tensor& scale = {},
                  at::ScalarType dtype = at::kFloat);

// x rounded: scaled to amax_to by its samples' amax, to codes, and back, in x's dtype. `amax` [B] is that of the
// whole samples where x holds only parts of them.
at::Tensor round_samples(const at::Tensor& x, double amax_to = kForwardAmax,
                         const at::Tensor& amax = {});

}  // namespace ospnext::hif8
