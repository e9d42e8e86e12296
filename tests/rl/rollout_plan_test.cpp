// Plans of rollouts and their steps.
#include "rl/rollout_plan.h"

#include <gtest/gtest.h>

#include "schedulers/sampler.h"
#include "support/compare.h"

namespace ospnext {
namespace {

// A velocity that depends on the latent, as a model's does.
at::Tensor velocity_at(const at::Tensor& latent, double sigma) {
  return latent.sin() + sigma * latent;
}

at::Tensor run(const RolloutPlan& plan, at::Tensor latent, const at::Tensor& noise) {
  RolloutSampler sampler(plan);
  for (int64_t i = 0; i < plan.steps(); ++i) {
    latent = sampler.step(i, latent, velocity_at(latent, plan.sigma(i)), noise).next;
  }
  return latent;
}

TEST(RolloutPlan, SaysWhatEachStepDoes) {
  const auto methods = [](StepRange noisy, double flash) {
    return rollout_plan(8, 3, noisy, {}, flash).methods;
  };
  using enum StepMethod;
  EXPECT_EQ(methods({0, 3}, 0),
            (std::vector{kNoisy, kNoisy, kNoisy, kEuler, kEuler, kEuler, kEuler, kEuler}));
  EXPECT_EQ(methods({1, 3}, 0.7),  // int((8 - 2)·0.7) = 4 levels after step 2, with the final 0
            (std::vector{kEuler, kNoisy, kNoisy, kDpm, kDpm, kDpm}));
}

TEST(RolloutSampler, IsEulersWhereNoStepAddsNoise) {
  torch::manual_seed(1);
  const at::Tensor start = at::randn({2, 3, 4});
  const RolloutPlan plan = rollout_plan(6, 3, {0, 0}, {}, 0);
  const auto euler = make_sampler("euler", 6, 3);
  at::Tensor latent = start;
  for (int64_t i = 0; i < 6; ++i) {
    latent = euler->step(i, latent, velocity_at(latent, plan.sigma(i)));
  }
  EXPECT_TRUE(same_bits(run(plan, start, {}), latent));
}

TEST(RolloutSampler, IsDpmAfterTheWindow) {
  torch::manual_seed(1);
  const at::Tensor start = at::randn({2, 3, 4});
  RolloutPlan plan = rollout_plan(9, 3, {0, 1}, {}, 1.0);
  plan.methods[0] = StepMethod::kEuler;  // as the first step of DPM++
  std::vector<double> sigmas;
  for (int64_t i = 0; i < plan.steps(); ++i) {
    sigmas.push_back(plan.sigma(i));
  }
  const auto dpm = make_sampler("dpm++", plan.steps(), 1, sigmas);
  at::Tensor latent = start;
  for (int64_t i = 0; i < plan.steps(); ++i) {
    latent = dpm->step(i, latent, velocity_at(latent, plan.sigma(i)));
  }
  EXPECT_LE(relative_max(run(plan, start, {}), latent), 1e-5);
}

TEST(RolloutSampler, AddsNoNoiseInTheLastStep) {
  torch::manual_seed(1);
  const RolloutPlan plan = rollout_plan(2, 1, {0, 2}, {}, 0);
  const at::Tensor latent = at::randn({1, 5}), velocity = at::randn({1, 5});
  const at::Tensor noise = at::ones({1, 5});
  RolloutSampler sampler(plan);
  const auto first = sampler.step(0, latent, velocity, noise);
  EXPECT_TRUE(same_bits(first.next, drawn_latent(plan.noisy_step(0, latent, velocity), noise)));
  const auto last = sampler.step(1, latent, velocity, noise);
  EXPECT_TRUE(same_bits(last.next, plan.noisy_step(1, latent, velocity).mean.to(at::kFloat)));
}

TEST(RolloutSampler, GivesTheLogProbabilityThatTheUpdateFinds) {
  torch::manual_seed(1);
  for (const SdeKind kind : {SdeKind::kOsp, SdeKind::kMix, SdeKind::kDance}) {
    const RolloutPlan plan = rollout_plan(5, 3, {0, 2}, {kind, default_eta(kind)}, 0);
    const at::Tensor latent = at::randn({3, 4, 2}), velocity = at::randn({3, 4, 2});
    RolloutSampler sampler(plan);
    at::Tensor old, next;
    {
      const at::NoGradGuard no_grad;
      const auto step = sampler.step(0, latent, velocity, at::randn({3, 4, 2}));
      old = step.log_prob, next = step.next;
    }
    const at::Tensor now = velocity.clone().requires_grad_();
    EXPECT_TRUE(same_bits(log_density(plan.noisy_step(0, latent, now), next).detach(), old));
  }
}

TEST(RolloutPlan, TakesTheSecondLevelForTheFirst) {
  EXPECT_NEAR(rollout_plan(25, 3, {0, 4}, {SdeKind::kMix, 0.7}, 0).rule.first_sigma,
              3 * 0.96 / (1 + 2 * 0.96), 1e-6);
}

}  // namespace
}  // namespace ospnext
