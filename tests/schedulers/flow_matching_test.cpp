// Compares the Euler sampler with diffusers and with levels from tools/make_scheduler_fixtures.py.
#include "schedulers/flow_matching.h"

#include <gtest/gtest.h>

#include <string>

#include "io/weights.h"
#include "schedulers/sampler.h"
#include "support/compare.h"
#include "support/paths.h"

namespace ospnext {
namespace {

constexpr double kSingleOperation = 1e-6;  // of the largest value: a few float32 roundings

struct Case {
  int64_t steps;
  double shift;
  std::string name;
};

class EulerCases : public testing::TestWithParam<Case> {
 protected:
  static at::Tensor fixture(const std::string& name) {
    static const auto tensors = read_tensors(fixture_path("schedulers/euler.safetensors"));
    return tensors.at(name);
  }
};

TEST_P(EulerCases, LevelsAreShiftedEvenSteps) {
  const auto& [steps, shift, name] = GetParam();
  const Schedule schedule = exact_schedule(euler_levels(steps, shift));
  EXPECT_EQ(schedule.sigmas.scalar_type(), torch::kFloat32);
  EXPECT_LT(relative_max(schedule.sigmas, fixture("sigmas_" + name)), kSingleOperation);
  EXPECT_LT(relative_max(schedule.timesteps, fixture("timesteps_" + name)), kSingleOperation);
  EXPECT_EQ(schedule.sigmas[0].item<float>(), 1.0f);
  EXPECT_EQ(schedule.sigmas[-1].item<float>(), 0.0f);
}

TEST_P(EulerCases, TrajectoryEqualsThatOfDiffusers) {
  const auto& [steps, shift, name] = GetParam();
  const auto sampler = make_sampler("euler", steps, shift);
  const at::Tensor expected = fixture("latents_" + name);
  const at::Tensor velocity = fixture("velocity_" + name);
  at::Tensor latent = expected[0];
  for (int64_t i = 0; i < steps; ++i) {
    latent = sampler->step(i, latent, velocity[i]);
    EXPECT_LT(relative_max(latent, expected[i + 1]), kSingleOperation) << "step " << i;
  }
}

TEST_P(EulerCases, AnotherShiftIsNoticed) {
  const auto& [steps, shift, name] = GetParam();
  const Schedule schedule = exact_schedule(euler_levels(steps, shift * 1.01));
  if (steps > 1) {
    EXPECT_GT(relative_max(schedule.sigmas, fixture("sigmas_" + name)), kSingleOperation);
  }
}

INSTANTIATE_TEST_SUITE_P(Euler, EulerCases,
                         testing::Values(Case{1, 7.0, "1_7"}, Case{4, 1.0, "4_1"},
                                         Case{20, 5.0, "20_5"}, Case{50, 7.0, "50_7"}),
                         [](const auto& info) { return info.param.name; });

TEST(Noise, EqualsTheReferencesBitForBit) {
  const auto tensors = read_tensors(fixture_path("schedulers/euler.safetensors"));
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1024}, (uint64_t{1} << 40) + 3}) {
    const at::Tensor noise = initial_noise(seed, 16, 3, 6, 10);
    EXPECT_EQ(noise.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(
        torch::equal(noise, tensors.at("noise_" + std::to_string(seed)).to(torch::kFloat32)))
        << seed;
  }
}

TEST(Guidance, ScaleOneIsTheConditionalVelocity) {
  const at::Tensor conditional = torch::tensor({1.0f, -2.0f, 0.5f});
  const at::Tensor unconditional = torch::tensor({0.5f, 1.0f, 0.5f});
  EXPECT_TRUE(torch::equal(guided_velocity(conditional, unconditional, 1.0), conditional));
  EXPECT_TRUE(torch::equal(guided_velocity(conditional, unconditional, 5.0),
                           torch::tensor({3.0f, -14.0f, 0.5f})));
}

TEST(Guidance, IsComputedInFloat32) {
  const at::Tensor velocity = torch::ones({2}, torch::kBFloat16);
  EXPECT_EQ(guided_velocity(velocity, velocity, 5.0).scalar_type(), torch::kFloat32);
  EXPECT_EQ(euler_step(velocity, velocity, 1.0, 0.5).scalar_type(), torch::kFloat32);
}

}  // namespace
}  // namespace ospnext
