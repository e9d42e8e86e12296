// How a rollout goes from noise to latent: its levels, what each step does, and the steps
// themselves.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"
#include "rl/sde_window.h"
#include "schedulers/schedules.h"
#include "schedulers/sde_step.h"

namespace ospnext {

enum class StepMethod {
  kNoisy,  // sde_step(), with a log-probability
  kEuler,
  kDpm,  // DPM-Solver++ of second order
};

// The steps of a rollout. N, their number, is smaller with MixGRPO-Flash than without.
struct RolloutPlan {
  Schedule schedule;                // levels [N + 1]; times [N], which are 1000·sigma
  std::vector<StepMethod> methods;  // [N]
  SdeRule rule;                     // of the noisy steps

  int64_t steps() const { return static_cast<int64_t>(methods.size()); }
  // The level of a step, as float32 holds it; the final 0 for i = steps().
  double sigma(int64_t i) const { return schedule.sigmas[i].item<float>(); }
  // The Gaussian of noisy step i, in the rollout and in the update. latent and velocity [B, ...].
  SdeStep noisy_step(int64_t i, const at::Tensor& latent, const at::Tensor& velocity) const;
};

// OSP-Next's levels for `steps` and `shift`; noise in the steps of `noisy`, of which there may be
// none, by `rule`, whose
// first_sigma comes from the levels. flash_ratio as in SdeWindowConfig.
RolloutPlan rollout_plan(int64_t steps, double shift, StepRange noisy, SdeRule rule,
                         double flash_ratio);

// One rollout of a batch. Its multistep steps use earlier ones, so each rollout needs its own.
class RolloutSampler {
 public:
  explicit RolloutSampler(RolloutPlan plan) : plan_(std::move(plan)) {}

  struct Step {
    at::Tensor next;      // [B, ...] float32
    at::Tensor log_prob;  // [B] float64 of `next` after a noisy step; else undefined
  };
  // Step i = 0, 1, ..., in this order: latent at its level and the guided velocity there, [B, ...].
  // `noise` [B, ...] is used by noisy steps alone. The last step of a rollout adds none: its result
  // is the mean. Source: OSP-Next train/train_osp_RL.py.
  Step step(int64_t i, const at::Tensor& latent, const at::Tensor& velocity,
            const at::Tensor& noise);

 private:
  RolloutPlan plan_;
  at::Tensor earlier_;  // the estimate of the clean latent at the step before
  int64_t next_step_ = 0;
};

}  // namespace ospnext
