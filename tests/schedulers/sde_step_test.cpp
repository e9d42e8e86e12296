// Steps with noise against a float64 reference written from the formulas
// (tools/make_rl_fixtures.py).
#include "schedulers/sde_step.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/choice.h"
#include "schedulers/schedules.h"
#include "support/compare.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

constexpr double kSame = 1e-12;        // of the largest value: the same operations in float64
constexpr double kShortStep = 1e-9;    // the same, where next - mean loses four digits
constexpr double kOneRounding = 1e-7;  // the same, of a float32

class SdeSteps : public testing::TestWithParam<std::string> {
 protected:
  const at::Tensor& of(const std::string& what) const {
    return fixture_.at(GetParam() + "." + what);
  }
  SdeRule rule() const {
    const auto& settings = fixture_.settings.at(GetParam());
    const SdeKind kind = one_of("kind", settings.at("kind"), kSdeKinds);
    return {
        .kind = kind,
        .eta = settings.at("eta").is_null() ? default_eta(kind) : settings.at("eta").get<double>(),
        .first_sigma = level(2),
        .cells = {.frames = settings.value("frames", int64_t{1}),
                  .side = settings.value("side", int64_t{1})}};
  }
  const at::Tensor& input(const std::string& name) const {
    return fixture_.at(GetParam().ends_with("cells") ? "cells." + name : name);
  }
  double level(int64_t i) const { return of("levels")[i].item<float>(); }
  double tolerance() const { return GetParam().ends_with("tiny") ? kShortStep : kSame; }
  SdeStep step(const at::Tensor& velocity) const {
    return sde_step(rule(), input("latent"), velocity, level(0), level(1));
  }

  const Fixture fixture_{"rl/sde_step.safetensors"};
};

TEST_P(SdeSteps, FollowTheFormulas) {
  const SdeStep taken = step(input("velocity"));
  EXPECT_LE(relative_max(taken.mean, of("mean")), kSame);
  EXPECT_NEAR(taken.std, of("std").item<double>(), kSame * taken.std);
  const at::Tensor next = drawn_latent(taken, input("noise"));
  EXPECT_EQ(next.scalar_type(), at::kFloat);
  EXPECT_LE(relative_max(next, of("next")), kOneRounding);
  EXPECT_LE(relative_max(log_density(taken, next), of("log_prob")), tolerance());
}

TEST_P(SdeSteps, GiveTheVelocityItsGradient) {
  const at::Tensor velocity = input("velocity").clone().requires_grad_();
  log_density(step(velocity), of("next").to(at::kFloat)).sum().backward();
  EXPECT_EQ(velocity.grad().scalar_type(), at::kFloat);
  EXPECT_LE(relative_max(velocity.grad(), of("gradient")), kOneRounding);
}

TEST_P(SdeSteps, AreTheSameBitsWithAndWithoutGradients) {
  const at::Tensor next = of("next").to(at::kFloat);
  const at::Tensor with =
      log_density(step(input("velocity").clone().requires_grad_()), next).detach();
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(same_bits(with, log_density(step(input("velocity")), next)));
}

INSTANTIATE_TEST_SUITE_P(Cases, SdeSteps,
                         testing::Values("osp_first", "osp_middle", "osp_last", "osp_tiny",
                                         "mix_first", "mix_second", "mix_middle", "mix_last",
                                         "mix_tiny", "dance_first", "dance_middle", "dance_last",
                                         "osp_cells", "mix_cells", "dance_cells"),
                         [](const auto& info) { return info.param; });

TEST(SdeStep, DanceAndMixAgreeWhereTheirNoiseIsEqual) {
  torch::manual_seed(1);
  const at::Tensor x = at::randn({2, 5}, at::kDouble), v = at::randn({2, 5}, at::kDouble);
  const double sigma = 0.6;
  const SdeStep mix = sde_step({.kind = SdeKind::kMix, .eta = 0.5}, x, v, sigma, 0.5);
  const double strength = 0.5 * std::sqrt(sigma / (1 - sigma));
  const SdeStep dance = sde_step({.kind = SdeKind::kDance, .eta = strength}, x, v, sigma, 0.5);
  EXPECT_LE(relative_max(mix.mean, dance.mean), kSame);
  EXPECT_NEAR(mix.std, dance.std, kSame);
}

TEST(SdeStep, NoticesAPlantedMistake) {
  const Fixture fixture("rl/sde_step.safetensors");
  const at::Tensor &x = fixture.at("latent"), &v = fixture.at("velocity");
  const SdeRule other{.kind = SdeKind::kMix, .eta = 0.303};  // 1 % too strong
  const SdeStep wrong = sde_step(other, x, v, 0.7F, 0.5F);
  EXPECT_GT(relative_max(wrong.mean, fixture.at("mix_middle.mean")), 1e-4);
  EXPECT_GT(relative_max(log_density(wrong, fixture.at("mix_middle.next")),
                         fixture.at("mix_middle.log_prob")),
            1e-3);
}

TEST(FlashLevels, AreCompressedAfterTheWindow) {
  const Fixture fixture("rl/schedules.safetensors");
  const auto& cases = fixture.settings.at("flash");
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto& [steps, shift, last, ratio] =
        cases.at(i).get<std::tuple<int64_t, double, int64_t, double>>();
    const Schedule schedule = exact_schedule(flash_levels(steps, shift, last, ratio));
    const at::Tensor& expected = fixture.at("flash_" + std::to_string(i));
    EXPECT_LE(relative_max(schedule.sigmas, expected), 1e-6) << i;
    EXPECT_TRUE(schedule.sigmas.slice(0, 0, last + 1)
                    .equal(euler_levels(steps, shift).slice(0, 0, last + 1)))
        << i;
  }
}

TEST(FlashLevels, AreTheUsualOnesWithARatioOfOne) {
  const at::Tensor levels = flash_levels(20, 3, 4, 1.0);
  EXPECT_LE(relative_max(levels, euler_levels(20, 3)), 1e-6);
}

}  // namespace
}  // namespace ospnext
