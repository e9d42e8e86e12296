// Channel norm and SiLU of a piece of video, written behind the frames before it.
#pragma once

#include "core/torch/torch.h"

namespace ospnext::vae {

// cat(past, silu(x / |x| · √C · gamma)) along time, where |x| is the length of a pixel's channel
// vector. `past` is [B, C, past_frames, H, W], or undefined for zeros; it gets no gradient.
// x [B, C, T, H, W] float32, float64 or bfloat16, gamma [C, 1, 1, 1]
// -> [B, C, past_frames + T, H, W] in the dtype of x, channels-last.
// It is one operation for autograd: the causal convolution that follows needs no padded copy, and
// no intermediate is kept. Sums accumulate at least in float32. The result is the same whether a
// gradient is wanted or not.
// Source: Wan2.1 wan/modules/vae.py:RMS_norm and ResidualBlock.
at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& gamma, int64_t past_frames,
                     const at::Tensor& past);

}  // namespace ospnext::vae
