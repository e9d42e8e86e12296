// Attention of queries, keys and values that are rounded to HiFloat8.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"
#include "quant/hif8_linear.h"

namespace ospnext::hif8 {

// Queries [B, L, H, D], keys and values [B, S, H, D] of one dtype, and the amax of each sample of
// them, [B] float32: of whole samples if they hold only a part of each; undefined: computed here.
struct Heads {
  at::Tensor query, key, value;
  at::Tensor query_amax = {}, key_amax = {}, value_amax = {};
};

// The heads rounded to HiFloat8, each sample scaled to amax_to, in their shapes and dtype: the
// values of the operands of `products`. Differentiable: the gradient passes through the rounding as
// if it were not there (straight-through).
Heads rounded(const Heads& heads, double amax_to, Products products);

// Attention of the rounded heads: inside segments of `lengths` tokens, or to all keys with
// log_weight if there are no lengths (kernels/attention.h). -> [B, L, H, D] of the heads' dtype.
// kSimulated: attention of rounded(). Otherwise fp8_attention(): queries and keys as E4M3, values
// as E4M3 too with kTensorCoresP8, else exact in the heads' dtype; `out_amax` as in
// kernels/amax.h, for tensor cores only.
// Differentiable: the gradient is that of attention of the rounded heads, straight-through.
at::Tensor attention(const Heads& heads, double amax_to, Products products,
                     const std::vector<int64_t>& lengths, const at::Tensor& log_weight = {},
                     const at::Tensor& out_amax = {});

}  // namespace ospnext::hif8
