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

// The blocks of a latent [B, C, F, h, w] that share their noise: so many frames, rows and columns,
// which divide F, h and w. With 1 and 1 each number has noise of its own.
struct NoiseCells {
  int64_t frames = 1;
  int64_t side = 1;  // rows and columns

  int64_t numbers() const { return frames * side * side; }
};

struct SdeRule {
  SdeKind kind = SdeKind::kOsp;
  double eta = 1;          // strength of the noise, above 0; kOsp does not use it
  double first_sigma = 0;  // kMix: the second level of the schedule, which stands for sigma in
                           // 1 - sigma where sigma = 1; below 1
  NoiseCells cells = {};
};

// eta of the authors: 0.7 (MixGRPO, scripts/finetune) and 0.3 (DanceGRPO, scripts/finetune).
constexpr double default_eta(SdeKind kind) {
  return kind == SdeKind::kOsp ? 1 : kind == SdeKind::kMix ? 0.7 : 0.3;
}

// The Gaussian from which a step draws the next latent.
struct SdeStep {
  at::Tensor mean;  // [B, ...] float64, with the gradient of the velocity
  double std = 0;   // of the noise that is added, sqrt(sigma - next_sigma) included
  NoiseCells cells = {};
};

// The coordinates of a latent [B, C, F, h, w] in the space of noise that cells share: the sum of
// each cell divided by the root of its numbers, [B, C, F/frames, h/side, w/side]. In them standard
// normal noise stays so. Cells of one number: x itself, of any shape. Throws c10::Error for cells
// that do not divide x.
at::Tensor noise_coordinates(const NoiseCells& cells, const at::Tensor& x);

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
// Where cells share their noise, only the part of the latent that they can change is corrected for
// it: with P the mean of each cell, mean = x + v·dt + P(the mean above - x - v·dt). This keeps the
// distribution of the latents too, and leaves fewer numbers whose noise a reward must explain.
//
// The first is the second with score = -(x + (1 - sigma)·v) / sigma, which is the same. All is
// computed in float64, so that the log-density of a short step keeps its digits; the factors depend
// on the levels alone. The results are equal bit for bit with and without gradients.
// Source: Liu et al. 2025, Flow-GRPO, arXiv 2505.05470, equation 9; Li et al. 2025, MixGRPO, arXiv
// 2507.21802, fastvideo/utils/sampling_utils.py; Xue et al. 2025, DanceGRPO, arXiv 2505.07818;
// OSP-Next train/train_osp_RL.py.
SdeStep sde_step(const SdeRule& rule, const at::Tensor& latent, const at::Tensor& velocity,
                 double sigma, double next_sigma);

// mean + std·P(noise). noise [B, ...] of any float type -> the next latent [B, ...] float32.
at::Tensor drawn_latent(const SdeStep& step, const at::Tensor& noise);

// The logarithm of the density of `next` [B, ...], a latent that a rollout has drawn, averaged over
// all noise_coordinates() of a sample -> [B] float64: the mean of -((next - mean)/std)²/2 -
// log(std) - log(2·pi)/2. `next` gets no gradient.
at::Tensor log_density(const SdeStep& step, const at::Tensor& next);

}  // namespace ospnext
