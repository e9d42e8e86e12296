// Adds a branch of a block to its residual: in the epilogue of the branch's last matrix product
// where possible.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// The sum x + gate·branch. Without x, the sum is the branch alone.
struct Residual {
  at::Tensor x = {};  // [B, L, C], or undefined. Without a gradient, the sum may be written to it.
  at::Tensor gate = {};  // [B, 1, C] float32; undefined: 1
};

// residual.x + residual.gate·branch, added in fp32 and stored in the branch's dtype. branch
// [B, L, C] of residual.x's dtype -> [B, L, C]. Differentiable.
at::Tensor add_branch(const Residual& residual, const at::Tensor& branch);

// add_branch() of the branch x Wᵀ + b. x [..., in], weight [out, in], bias [out], all of one dtype
// -> [..., out] of that dtype. Differentiable.
//
// In bf16 on CUDA without a gradient, this is one product of cuBLASLt per sample. Its epilogue adds
// bias and residual in fp32. No epilogue has a gate, so weight and bias are multiplied by the gate
// first and rounded to bf16, as the branch would be. With a gate and at most `in` rows, a plain
// product and a separate pass over its result are used instead.
at::Tensor linear(const Residual& residual, const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias);

}  // namespace ospnext
