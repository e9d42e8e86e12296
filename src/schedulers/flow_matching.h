// Flow matching as OSP-Next samples it: one Euler step, guidance, the noise of a seed.
//
// A latent at noise level sigma is x = sigma·noise + (1 - sigma)·clean. The model predicts the
// velocity dx/dsigma = noise - clean. Sampling integrates it from sigma = 1 (noise) to 0 (clean).
#pragma once

#include <cstdint>

#include "core/torch/torch.h"

namespace ospnext {

// One Euler step from level `sigma` to `next_sigma`: latent + velocity·(next_sigma - sigma).
// latent and velocity of equal shape and any float type -> same shape, float32. OSP-Next rounds the
// result to bf16; here latents stay float32.
at::Tensor euler_step(const at::Tensor& latent, const at::Tensor& velocity, double sigma,
                      double next_sigma);

// Classifier-free guidance: unconditional + scale·(conditional - unconditional).
// Inputs of equal shape and any float type -> same shape, float32.
at::Tensor guided_velocity(const at::Tensor& conditional, const at::Tensor& unconditional,
                           double scale);

// The initial noise of a sample, [channels, frames, height, width] of the latent, float32. The
// values are drawn in bf16 by a CPU generator with seed `seed`, so that they equal OSP-Next's on
// any device.
at::Tensor initial_noise(uint64_t seed, int64_t channels, int64_t frames, int64_t height,
                         int64_t width);

}  // namespace ospnext
