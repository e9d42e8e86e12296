#include "rl/rollout_plan.h"

#include "schedulers/flow_matching.h"
#include "schedulers/multistep.h"

namespace ospnext {

RolloutPlan rollout_plan(int64_t steps, double shift, StepRange noisy, SdeRule rule,
                         double flash_ratio) {
  TORCH_CHECK(0 <= noisy.begin && noisy.begin <= noisy.end && noisy.end <= steps,
              "rollout_plan: noise from step ", noisy.begin, " to ", noisy.end, " of ", steps);
  const bool flash = flash_ratio > 0;
  const at::Tensor levels =
      flash ? flash_levels(steps, shift, noisy.end - 1, flash_ratio) : euler_levels(steps, shift);
  RolloutPlan plan{.schedule = exact_schedule(levels), .methods = {}, .rule = rule};
  for (int64_t i = 0; i < levels.size(0); ++i) {
    const StepMethod without_noise =
        flash && i >= noisy.end ? StepMethod::kDpm : StepMethod::kEuler;
    plan.methods.push_back(noisy.contains(i) ? StepMethod::kNoisy : without_noise);
  }
  plan.rule.first_sigma = plan.sigma(1);
  return plan;
}

SdeStep RolloutPlan::noisy_step(int64_t i, const at::Tensor& latent,
                                const at::Tensor& velocity) const {
  return sde_step(rule, latent, velocity, sigma(i), sigma(i + 1));
}

RolloutSampler::Step RolloutSampler::step(int64_t i, const at::Tensor& latent,
                                          const at::Tensor& velocity, const at::Tensor& noise) {
  TORCH_CHECK(i == next_step_ && i < plan_.steps(), "step ", i, " of ", plan_.steps(),
              ", expected ", next_step_);
  ++next_step_;
  const double from = plan_.sigma(i), to = plan_.sigma(i + 1);
  const bool is_last = i + 1 == plan_.steps();
  const at::Tensor before = earlier_;
  earlier_ = clean_estimate(latent, velocity, from);
  switch (plan_.methods[static_cast<size_t>(i)]) {
    case StepMethod::kNoisy: {
      const SdeStep gaussian = plan_.noisy_step(i, latent, velocity);
      const at::Tensor next =
          is_last ? gaussian.mean.to(at::kFloat) : drawn_latent(gaussian, noise);
      return {next, log_density(gaussian, next)};
    }
    case StepMethod::kEuler:
      return {euler_step(latent, velocity, from, to), {}};
    case StepMethod::kDpm: {
      const bool second_order = before.defined() && !is_last;
      const at::Tensor ahead =
          second_order ? extrapolated_clean(earlier_, before, plan_.sigma(i - 1), from, to)
                       : earlier_;
      return {toward_clean(latent, ahead, from, to), {}};
    }
  }
  TORCH_CHECK(false, "unknown method of a step");
}

}  // namespace ospnext
