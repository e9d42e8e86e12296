// Linear layers whose bias, GELU or residual are computed in the epilogue of the matrix product
// where a device can.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// Where bias, GELU and residual of a product are computed. The two differ in roundings, so a model
// that is compared with itself needs the same one everywhere.
enum class Epilogue {
  kSeparate,  // in passes over the product, which is rounded first
  kFused      // in the product's epilogue where the device has one; elsewhere as kSeparate
};

// The sum x + gate·branch. Without x, the sum is the branch alone.
struct Residual {
  at::Tensor x = {};     // [B, L, C], or undefined
  at::Tensor gate = {};  // [B, 1 or L, C] float32; undefined: 1
  // Whether memory of inputs may be overwritten: the sum may be written to x. Only where x needs no
  // gradient.
  bool overwrite = false;
};

// residual.x + residual.gate·branch, added in fp32 and stored in the branch's dtype. branch
// [B, L, C] of residual.x's dtype -> [B, L, C]. Differentiable.
at::Tensor add_branch(const Residual& residual, const at::Tensor& branch);

// add_branch() of the branch x Wᵀ + b. x [..., in], weight [out, in], bias [out] or undefined, all
// of one dtype -> [..., out] of that dtype. Differentiable.
//
// kFused in bf16 on CUDA: the epilogue of cuBLASLt's product adds bias and residual in fp32. No
// epilogue has a gate, so weight and bias are multiplied by the gate first and rounded to bf16, as
// the branch would be, in a product for each sample. Where that does not pay (at most `in` rows, a
// small sum) or cannot be (a gate for each token), a plain product and a separate pass over its
// result are used instead.
at::Tensor linear(const Residual& residual, const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias, Epilogue epilogue);

// GELU (tanh approximation) of x Wᵀ + b. Shapes as in linear(). Differentiable.
// kFused on CUDA: in the product's epilogue. The gradient then computes the product again, since
// the values before the GELU are not stored.
at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       Epilogue epilogue);

}  // namespace ospnext
