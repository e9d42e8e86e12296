// Compares the samplers with diffusers and with Wan's formulas (tools/make_scheduler_fixtures.py).
#include "schedulers/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/weights.h"
#include "schedulers/multistep.h"
#include "support/compare.h"
#include "support/paths.h"

namespace ospnext {
namespace {

constexpr double kTrajectory = 2e-5;  // relative L2 of a latent: float32 factors in the references
// the range in which whole timesteps are compared
constexpr int64_t kFewestSteps = 4, kMostSteps = 50, kLargestShift = 8;

const std::map<std::string, at::Tensor>& fixtures() {
  static const auto tensors = read_tensors(fixture_path("schedulers/samplers.safetensors"));
  return tensors;
}

std::string case_name(int64_t steps, int64_t shift) {
  return std::to_string(steps) + "_" + std::to_string(shift);
}

// The latents [N + 1, ...] of a run with the first N velocities of the fixture.
at::Tensor run(Sampler& sampler) {
  std::vector<at::Tensor> latents = {fixtures().at("latent")};
  for (int64_t i = 0; i < sampler.steps(); ++i) {
    latents.push_back(sampler.step(i, latents.back(), fixtures().at("velocity")[i]));
  }
  return torch::stack(latents);
}

// The largest relative L2 among the latents of two runs.
double farthest(const at::Tensor& latents, const at::Tensor& expected) {
  EXPECT_EQ(latents.sizes(), expected.sizes());
  double worst = 0;
  for (int64_t i = 0; i < expected.size(0); ++i) {
    worst = std::max(worst, relative_l2(latents[i], expected[i]));
  }
  return worst;
}

class Samplers : public testing::TestWithParam<std::string> {
 protected:
  static at::Tensor fixture(const std::string& name) {
    return fixtures().at(GetParam() + "." + name);
  }
  static std::unique_ptr<Sampler> sampler(int64_t steps, double shift) {
    return make_sampler(GetParam(), steps, shift);
  }
};

TEST_P(Samplers, LevelsEqualTheReferences) {
  for (const auto& [steps, shift] : std::vector<std::pair<int64_t, int64_t>>{
           {4, 1}, {4, 8}, {10, 1}, {10, 5}, {37, 1}, {37, 3}, {50, 5}, {50, 8}}) {
    const std::string name = case_name(steps, shift);
    const Schedule schedule = sampler(steps, static_cast<double>(shift))->schedule();
    EXPECT_EQ(schedule.sigmas.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::equal(schedule.sigmas, fixture("sigmas_" + name))) << name;
    if (GetParam() == "diffusers-euler") {
      EXPECT_TRUE(torch::equal(schedule.timesteps, fixture("timesteps_" + name))) << name;
    }
  }
}

TEST_P(Samplers, WholeTimestepsEqualTheReferencesForAllStepsAndShifts) {
  if (GetParam() == "diffusers-euler") {
    EXPECT_GT((sampler(10, 5)->schedule().timesteps.frac().abs().max().item<float>()), 0.0f);
    return;  // this one does not round timesteps
  }
  std::vector<at::Tensor> all;
  for (int64_t shift = 1; shift <= kLargestShift; ++shift) {
    for (int64_t steps = kFewestSteps; steps <= kMostSteps; ++steps) {
      all.push_back(sampler(steps, static_cast<double>(shift))->schedule().timesteps);
    }
  }
  EXPECT_EQ(all.front().scalar_type(), torch::kFloat32);
  EXPECT_TRUE(torch::equal(torch::cat(all), fixture("timesteps").to(torch::kFloat32)));
}

TEST_P(Samplers, TrajectoriesEqualTheReferences) {
  for (const auto& [steps, shift] :
       std::vector<std::pair<int64_t, int64_t>>{{4, 3}, {10, 1}, {10, 5}, {10, 8}, {50, 5}}) {
    const double found = farthest(run(*sampler(steps, static_cast<double>(shift))),
                                  fixture("latents_" + case_name(steps, shift)));
    std::cout << GetParam() << ", " << steps << " steps, shift " << shift << ": " << found << "\n";
    EXPECT_LT(found, kTrajectory) << steps << " " << shift;
  }
}

// The comparison of trajectories must notice another shift.
TEST_P(Samplers, AnotherShiftIsNoticed) {
  EXPECT_GT(farthest(run(*sampler(10, 5.05)), fixture("latents_10_5")), kTrajectory);
}

TEST_P(Samplers, OtherSolversOnTheSameLevelsAreNoticed) {
  const at::Tensor sigmas = sampler(10, 5)->schedule().sigmas.to(torch::kFloat64);
  const std::vector<double> levels(sigmas.const_data_ptr<double>(),
                                   sigmas.const_data_ptr<double>() + sigmas.numel());
  std::map<std::string, double>
      distance;  // of the second last latent; the last one is just a clean estimate
  const at::Tensor expected = fixture("latents_10_5")[9];
  for (const char* solver : {"euler", "dpm++", "unipc"}) {
    distance[solver] = relative_l2(run(*make_sampler(solver, 10, 1, levels))[9], expected);
  }
  const bool is_euler = GetParam() == "diffusers-euler", is_dpm = GetParam() == "dpm++";
  EXPECT_EQ(distance["euler"] < kTrajectory, is_euler) << distance["euler"];
  EXPECT_EQ(distance["dpm++"] < kTrajectory, is_dpm) << distance["dpm++"];
  EXPECT_EQ(distance["unipc"] < kTrajectory, !is_euler && !is_dpm) << distance["unipc"];
}

// The levels of Wan's UniPC and of that of diffusers up to 0.36 differ only in their last bits.
TEST_P(Samplers, OtherLevelsAreNoticed) {
  const auto family = [](const std::string& name) {
    return name == "diffusers-unipc-0.36" ? "unipc" : name;
  };
  for (const std::string& other : sampler_names()) {
    const auto reference = fixtures().find(other + ".latents_10_5");  // Euler has none
    if (reference != fixtures().end() && family(other) != family(GetParam())) {
      EXPECT_GT(farthest(run(*sampler(10, 5)), reference->second), kTrajectory) << other;
    }
  }
}

TEST_P(Samplers, BatchesAreIndependentSamples) {
  const at::Tensor latent = fixtures().at("latent"), velocity = fixtures().at("velocity");
  const auto both = sampler(5, 3), one = sampler(5, 3);
  at::Tensor pair = torch::cat({latent, -latent}), single = latent;
  for (int64_t i = 0; i < 5; ++i) {
    pair = both->step(i, pair, torch::cat({velocity[i], 0.5 * velocity[i]}));
    single = one->step(i, single, velocity[i]);
  }
  EXPECT_TRUE(torch::equal(pair.slice(0, 0, 1), single));
}

TEST_P(Samplers, LatentsStayFloat32AndRunsRepeatBitForBit) {
  const auto low = [](const at::Tensor& x) { return x.to(torch::kBFloat16); };
  const auto first = sampler(6, 3), second = sampler(6, 3);
  at::Tensor a = low(fixtures().at("latent")), b = a;
  for (int64_t i = 0; i < 6; ++i) {
    a = first->step(i, a, low(fixtures().at("velocity")[i]));
    b = second->step(i, b, low(fixtures().at("velocity")[i]));
    EXPECT_EQ(a.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::equal(a, b));
  }
}

// If the estimate of the clean latent never changes, every number of steps reaches it exactly.
TEST_P(Samplers, AConstantEstimateIsReached) {
  const at::Tensor clean = fixtures().at("velocity")[7];
  for (const int64_t steps : {1, 2, 3, 17, 1000}) {
    const auto run = sampler(steps, 5);
    const at::Tensor sigmas = run->schedule().sigmas;
    at::Tensor latent = fixtures().at("latent");
    for (int64_t i = 0; i < steps; ++i) {
      latent = run->step(i, latent, (latent - clean) / sigmas[i].item<float>());
    }
    EXPECT_LT(relative_l2(latent, clean), 1e-5) << steps;
  }
}

INSTANTIATE_TEST_SUITE_P(Sampler, Samplers,
                         testing::Values("unipc", "dpm++", "diffusers-unipc",
                                         "diffusers-unipc-0.36", "diffusers-euler"),
                         [](const auto& info) {
                           std::string name;
                           for (const char letter : info.param) {
                             name += letter == '+' ? 'p' : std::isalnum(letter) != 0 ? letter : '_';
                           }
                           return name;
                         });

TEST(Sampler, CustomLevelsAreTakenAsTheyAre) {
  const std::vector<double> levels = {1.0, 0.9, 0.6, 0.25};
  for (const std::string name : {"dpm++", "diffusers-unipc", "diffusers-euler"}) {
    const auto sampler = make_sampler(name, 4, 7.0, levels);
    const auto fixture = [&](const char* what) { return fixtures().at(name + ".custom_" + what); };
    EXPECT_TRUE(torch::equal(sampler->schedule().sigmas, fixture("sigmas"))) << name;
    EXPECT_TRUE(torch::equal(sampler->schedule().timesteps, fixture("timesteps"))) << name;
    EXPECT_LT(farthest(run(*sampler), fixture("latents")), kTrajectory) << name;
  }
}

TEST(Sampler, AZeroAtTheEndOfCustomLevelsIsTheSame) {
  for (const std::string& name : sampler_names()) {
    const auto without = make_sampler(name, 2, 1.0, {0.8, 0.3});
    const auto with = make_sampler(name, 2, 1.0, {0.8, 0.3, 0.0});
    EXPECT_TRUE(torch::equal(without->schedule().sigmas, with->schedule().sigmas)) << name;
    EXPECT_TRUE(torch::equal(run(*without), run(*with))) << name;
  }
}

// Level 1 has an infinite lambda; Wan's own UniPC divides by it.
TEST(Sampler, UniPcCanStartAtLevelOne) {
  const at::Tensor latents = run(*make_sampler("unipc", 4, 1.0, {1.0, 0.9, 0.6, 0.25}));
  EXPECT_TRUE(latents.isfinite().all().item<bool>());
  const at::Tensor nearly = run(*make_sampler("diffusers-unipc", 4, 1.0, {1.0, 0.9, 0.6, 0.25}));
  EXPECT_LT(farthest(latents, nearly), 0.1);
}

// The weights of UniC come from a series for short steps. At its limit it agrees with the formula.
TEST(Multistep, CorrectionOfShortStepsIsContinuous) {
  const at::Tensor clean = torch::tensor({0.5}), arrived = torch::tensor({0.7});
  const at::Tensor earlier = torch::tensor({0.2});
  const auto corrected = [&](double length) {  // lambda: before -0.5, from 0, to `length`
    const auto level = [](double lambda) { return 1 / (1 + std::exp(lambda)); };
    return corrected_clean(clean, arrived, earlier, level(-0.5), 0.5, level(length)).item<double>();
  };
  const double below = corrected(0.01 * (1 - 1e-6)), above = corrected(0.01 * (1 + 1e-6));
  EXPECT_NEAR(below, above, 2e-7);
  EXPECT_NEAR(corrected(1e-7), 0.6, 1e-6);  // the mean of the two ends
  EXPECT_GT(std::abs(corrected(0.5) - corrected_clean(clean, arrived).item<double>()), 1e-3);
}

TEST(Sampler, StepsOutOfOrderAreAProgrammersMistake) {
  const auto sampler = make_sampler("unipc", 3, 1.0);
  const at::Tensor latent = torch::zeros({2});
  EXPECT_THROW(sampler->step(1, latent, latent), c10::Error);
  sampler->step(0, latent, latent);
  EXPECT_THROW(sampler->step(0, latent, latent), c10::Error);
}

// The message of the InputError that `action` throws; "" when it throws none.
template <class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Sampler, AnUnknownNameIsRefusedWithThoseKnown) {
  std::string known;
  for (const std::string& name : sampler_names()) {
    known += (known.empty() ? "" : ", ") + name;
  }
  EXPECT_EQ(refusal([] { make_sampler("eular", 4, 1.0); }),
            "`scheduler`: found \"eular\", expected one of: " + known);
}

TEST(Sampler, AbsurdNumbersAreRefused) {
  for (const std::string& name : sampler_names()) {
    for (const int64_t steps : {int64_t{0}, int64_t{-3}, int64_t{1} << 40}) {
      EXPECT_NE(refusal([&] { make_sampler(name, steps, 7.0); }), "") << steps;
    }
    for (const double shift : {0.0, -1.0, 1e9, double{NAN}, double{INFINITY}}) {
      EXPECT_NE(refusal([&] { make_sampler(name, 4, shift); }), "") << shift;
    }
    EXPECT_EQ(refusal([&] { make_sampler(name, 1000, 10.0); }), "");
  }
  EXPECT_NE(refusal([] { make_sampler("diffusers-unipc", 10000, 1000.0); }),
            "");  // 1 - 1e-6 < 1 - 1e-7
}

TEST(Sampler, LevelsThatAreNoneAreRefused) {
  const auto refused = [](const std::vector<double>& levels, int64_t steps) {
    return refusal([&] { make_sampler("unipc", steps, 1.0, levels); });
  };
  EXPECT_EQ(refused({0.9, 0.5}, 2), "");
  EXPECT_EQ(refused({0.9, 0.5}, 3),
            "`sigmas`: found 2 noise levels above 0, expected as many as `steps`, 3");
  EXPECT_EQ(refused({0.0}, 1),
            "`sigmas`: found 0 noise levels above 0, expected as many as `steps`, 1");
  EXPECT_EQ(refused({1.5, 0.5}, 2), "`sigmas`: found 1.5, expected 1e-06 to 1.0");
  EXPECT_NE(refused({0.5, -0.5}, 2), "");
  EXPECT_NE(refused({double{NAN}, 0.5}, 2), "");
  EXPECT_NE(refused({0.9, 0.0, 0.5}, 3), "");
  EXPECT_EQ(refused({0.5, 0.75}, 2),
            "noise levels: found 0.75 after 0.5, expected falling ones: check `sigmas`, or `steps` "
            "and `shift`");
  EXPECT_NE(refused({0.5, 0.5 - 1e-12}, 2), "");  // equal in float32
}

}  // namespace
}  // namespace ospnext
