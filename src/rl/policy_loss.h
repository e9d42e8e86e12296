// The loss of a policy's update: the clipped ratio of GRPO, and the distance to a reference model.
#pragma once

#include <cstdint>

#include "core/torch/torch.h"

namespace ospnext {

// The defaults are those of OSP-Next's training program.
struct PolicyLossConfig {
  double clip = 5e-3;   // of the ratio, around 1
  double kl_beta = 0;   // weight of the distance to the reference
  double adv_clip = 5;  // largest magnitude of an advantage

  // Throws InputError naming field, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("clip", clip, "how far from 1 the ratio of probabilities still counts");
    field("kl_beta", kl_beta, "weight of the distance to the reference model");
    field("adv_clip", adv_clip, "largest magnitude of an advantage");
  }
};

// The means of one step with noise, of the policy and of the reference, [n, ...] each, in its
// noise_coordinates(), and the std of the noise. Without a reference, leave the tensors undefined:
// then there is no distance.
struct ReferencedMeans {
  at::Tensor policy, reference;
  double std = 1;
};

// All are scalars in float64, ratio [n]; `loss`, policy_loss and kl have gradients.
struct PolicyLoss {
  at::Tensor loss;           // policy_loss + kl_beta·kl
  at::Tensor policy_loss;    // mean of max(-A·ratio, -A·clamp(ratio, 1 - clip, 1 + clip))
  at::Tensor kl;             // mean of (policy - reference)² / (2·std²)
  at::Tensor approx_kl;      // mean of (log_prob - old_log_prob)² / 2
  at::Tensor clip_fraction;  // share of the ratios farther than `clip` from 1
  at::Tensor ratio;          // exp(log_prob - old_log_prob)
};

// log_prob with gradient, old_log_prob and advantages A, clamped to ±adv_clip: [n] of any float
// type. The caller divides by the passes of an optimizer step: OSP-Next by accumulation · steps
// with noise. Computed in float64.
// Source: OSP-Next train/train_osp_RL.py; Liu et al. 2025, Flow-GRPO, arXiv 2505.05470, equations
// 5 and 10; Schulman et al. 2017, PPO, arXiv 1707.06347, equation 7.
PolicyLoss policy_loss(const PolicyLossConfig& config, const at::Tensor& log_prob,
                       const at::Tensor& old_log_prob, const at::Tensor& advantages,
                       const ReferencedMeans& means);

}  // namespace ospnext
