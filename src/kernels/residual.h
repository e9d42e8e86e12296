// What a branch of a block is added to, in the epilogue of the branch's last matrix product where that can be.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// x + gate·branch; without x, the branch alone.
struct Residual {
  at::Tensor x =
      {};  // [B, L, C], or undefined; without a gradient it may be overwritten by the sum
  at::Tensor gate = {};  // [B, 1, C] float32, or undefined: 1
};

// residual.x + gate·branch, added in fp32 and stored in the branch's dtype. branch [B, L, C] of x's dtype -> [B, L, C].
// Differentiable.
at::Tensor add_branch(const Residual& residual, const at::Tensor& branch);

// add_branch() of x Wᵀ + b. x [..., in], weight [out, in], bias [out], all of one dtype -> [..., out]. Without a gradient,
// in bf16 on CUDA, one product of cuBLASLt: its epilogue adds bias and residual, in fp32, and the gate, which no
// epilogue knows, multiplies weight and bias before, rounded to bf16 as the branch would be; with fewer rows than `in`
// the product and a pass over its result.
at::Tensor linear(const Residual& residual, const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias);

}  // namespace ospnext
