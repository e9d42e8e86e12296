// Channel norm and SiLU of a piece of video, written behind the frames that precede it.
#pragma once

#include <torch/torch.h>

namespace ospnext::vae {

// 1 / length of every pixel's channel vector, at least 1e-12 long; float32 (float64 for float64).
// x [B, C, T, H, W] -> [B, 1, T, H, W].
at::Tensor inverse_length(const at::Tensor& x);

// silu(x / |x| * sqrt(C) * gamma), |x| over the channels, behind `past` ([B, C, past_frames, H, W], or
// undefined: zeros), which gets no gradient. One operation for autograd: the causal convolution that
// follows needs no padded copy, and only x and its lengths are kept for the backward pass.
// x [B, C, T, H, W], gamma [C, 1, 1, 1] -> [B, C, past_frames + T, H, W] in the dtype of x; lengths are
// float32, each of the three factors rounds to the dtype of x.
// Source: Wan2.1 wan/modules/vae.py:RMS_norm and ResidualBlock.
at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& gamma, int64_t past_frames,
                     const at::Tensor& past);

}  // namespace ospnext::vae
