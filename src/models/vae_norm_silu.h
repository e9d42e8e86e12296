// Channel norm and SiLU of a piece of video, written behind the frames that precede it.
#pragma once

#include "core/torch/torch.h"

namespace ospnext::vae {

// silu(x / |x| * sqrt(C) * gamma), |x| over the channels, behind `past` ([B, C, past_frames, H, W], or
// undefined: zeros), which gets no gradient. One operation for autograd, so that the causal
// convolution that follows needs no padded copy and no intermediate in a wider dtype is kept.
// x [B, C, T, H, W] float32, float64 or bfloat16, gamma [C, 1, 1, 1] -> [B, C, past_frames + T, H, W] in
// the dtype of x, channels-last. Sums accumulate in float32 at least; bfloat16 rounds
// after each step where a gradient is wanted, else once or twice.
// Source: Wan2.1 wan/modules/vae.py:RMS_norm and ResidualBlock.
at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& gamma, int64_t past_frames,
                     const at::Tensor& past);

}  // namespace ospnext::vae
