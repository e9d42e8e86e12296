// The loss of DiffusionNFT: the policy learns on noised versions of its videos, without the steps
// that made them.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

struct ForwardLossConfig {
  double beta = 1;      // how far the implied policies are from the old one
  double kl_beta = 0;   // weight of the distance to the reference
  double adv_clip = 5;  // magnitude of an advantage from which a video is all good or all bad
};

// Noised videos, n of them: x = level·noise + (1 - level)·clean.
struct NoisedVideos {
  at::Tensor clean;   // [n, ...] float32
  at::Tensor noised;  // [n, ...] float32
  double level = 1;   // above 0
};

// Velocities at the noised videos, [n, ...] float32.
struct ForwardVelocities {
  at::Tensor policy;     // with gradients
  at::Tensor old;        // of the policy that made the videos
  at::Tensor reference;  // or undefined: no distance to it
};

// Scalars in float64; loss, policy_loss and kl have gradients.
struct ForwardLoss {
  at::Tensor loss;         // policy_loss + kl_beta·kl
  at::Tensor policy_loss;  // see below
  at::Tensor kl;           // mean of (policy - reference)²
  at::Tensor change;       // mean of (policy - old)²
};

// A video is good by r = clamp(A / adv_clip, -1, 1)/2 + 1/2 and bad by 1 - r, A its advantage
// [n]. Two policies are implied, v± = old ± beta·(policy - old), and both should denoise: the first
// the good videos, the second the bad ones. With x± = x - level·v±:
//
//   e± = mean of (x± - clean)² / (mean of |x± - clean|, at least 1e-5, without gradient)
//   policy_loss = mean over the videos of (r·e+ + (1 - r)·e-)·adv_clip / beta
//
// At policy = old its gradient is that of -A·(closeness to the video). Computed in float64.
// Source: Zheng et al. 2025, DiffusionNFT, arXiv 2509.16117, equation 5 and section 3.3 for the
// divisor; the factor adv_clip / beta is that of the authors' program.
ForwardLoss forward_loss(const ForwardLossConfig& config, const NoisedVideos& videos,
                         const ForwardVelocities& velocities, const at::Tensor& advantages);

}  // namespace ospnext
