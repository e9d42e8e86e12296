// Steps of sampling that add noise: from where the next latent is drawn, and how likely it was.
// They turn a sampler into a policy for reinforcement learning.
#pragma once

#include <array>
#include <utility>

#include "core/torch/torch.h"

namespace ospnext {

enum class SdeKind {
  kOsp,    // OSP-Next: noise as strong as the level
  kMix,    // Flow-GRPO and MixGRPO: noise eta·sqrt(sigma / (1 - sigma))
  kDance,  // DanceGRPO: noise eta at every level
};
inline constexpr std::array<std::pair<const char*, SdeKind>, 3> kSdeKinds = {
    {{"osp", SdeKind::kOsp}, {"mix", SdeKind::kMix}, {"dance", SdeKind::kDance}}};

struct SdeRule {
  SdeKind kind = SdeKind::kOsp;
  double eta = 1;          // strength of the noise, above 0; kOsp does not use it
  double first_sigma = 0;  // kMix: the second level of the schedule, which stands for sigma in
                           // 1 - sigma where sigma = 1; below 1
};

// eta of the authors: 0.7 (MixGRPO, scripts/finetune) and 0.3 (DanceGRPO, scripts/finetune).
constexpr double default_eta(SdeKind kind) {
  return kind == SdeKind::kOsp ? 1 : kind == SdeKind::kMix ? 0.7 : 0.3;
}

// The Gaussian from which a step draws the next latent.
struct SdeStep {
  at::Tensor mean;  // [B, ...] float64, with the gradient of the velocity
  double std = 0;   // of the noise that is added, sqrt(sigma - next_sigma) included
};

// The step from level sigma to next_sigma, 0 <= next_sigma < sigma <= 1, both as float32 holds
// them. latent and velocity [B, ...], of equal shape and any float type. With dt = next_sigma -
// sigma, x the latent and v the velocity:
//
//   osp, mix  mean = x·(1 + s²/(2·sigma)·dt) + v·(1 + s²·(1 - sigma)/(2·sigma))·dt
//             s = sigma (osp), eta·sqrt(sigma / (1 - sigma)) (mix)
//   dance     mean = x + v·dt - s²/2·score·dt,  s = eta,
//             score = -(x - (1 - sigma)·(x - sigma·v)) / sigma²
//   std = s·sqrt(-dt)
//
// The first is the second with score = -(x + (1 - sigma)·v) / sigma, which is the same. All is
// computed in float64, so that the log-density of a short step keeps its digits; the factors depend
// on the levels alone. The results are equal bit for bit with and without gradients.
// Source: Liu et al. 2025, Flow-GRPO, arXiv 2505.05470, equation 9; Li et al. 2025, MixGRPO, arXiv
// 2507.21802, fastvideo/utils/sampling_utils.py; Xue et al. 2025, DanceGRPO, arXiv 2505.07818;
// OSP-Next train/train_osp_RL.py.
SdeStep sde_step(const SdeRule& rule, const at::Tensor& latent, const at::Tensor& velocity,
                 double sigma, double next_sigma);

// mean + std·noise. noise [B, ...] of any float type -> the next latent [B, ...] float32.
at::Tensor drawn_latent(const SdeStep& step, const at::Tensor& noise);

// The logarithm of the density of `next` [B, ...], a latent that a rollout has drawn, averaged over
// all elements of a sample -> [B] float64: the mean of -((next - mean)/std)²/2 - log(std) -
// log(2·pi)/2. `next` gets no gradient.
at::Tensor log_density(const SdeStep& step, const at::Tensor& next);

}  // namespace ospnext
