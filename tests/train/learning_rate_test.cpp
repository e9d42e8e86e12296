#include "train/learning_rate.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/paths.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-12;  // of the largest value

LearningRateConfig config_of(const std::string& schedule, double final_share = 0) {
  LearningRateConfig config;
  config.learning_rate = 3e-4;
  config.learning_rate_schedule = schedule;
  config.final_learning_rate = final_share;
  config.warmup_steps = 5;
  return config;
}

// transformers' rates of the steps 0 to 40 (tools/make_training_fixtures.py). Its warm-up has a
// rate of 0 at step 0 and the peak at step 5, which is then kept for one step less than here.
TEST(LearningRate, FollowsTransformersOneStepEarlierInTheWarmUp) {
  const auto fixture = read_tensors(fixture_path("training/learning_rates.safetensors"));
  LearningRateConfig restarts = config_of("cosine_with_restarts");
  restarts.learning_rate_cycles = 3;
  LearningRateConfig polynomial = config_of("polynomial", 0.1);
  polynomial.learning_rate_power = 2.5;
  const std::vector<std::pair<const char*, LearningRateConfig>> cases = {
      {"constant_with_warmup", config_of("constant", 0.5)},
      {"linear", config_of("linear")},
      {"cosine", config_of("cosine")},
      {"cosine_with_min_lr", config_of("cosine", 0.02)},
      {"cosine_with_restarts", restarts},
      {"polynomial", polynomial}};
  for (const auto& [name, config] : cases) {
    const at::Tensor& theirs = fixture.at(name);  // [41] float64
    const int64_t steps = theirs.size(0) - 1;
    std::vector<double> ours, expected;
    for (int64_t step = 0; step <= steps; ++step) {
      ours.push_back(config.learning_rate_at(step, steps));
      const int64_t of_theirs = step < config.warmup_steps ? step + 1 : step;
      expected.push_back(theirs[of_theirs].item<double>());
    }
    EXPECT_LE(relative_max(at::tensor(ours, at::kDouble), at::tensor(expected, at::kDouble)),
              kTolerance)
        << name;
  }
  EXPECT_GT(config_of("linear", 0.1).learning_rate_at(30, 40),
            fixture.at("linear")[30].item<double>() * 1.1)
      << "a planted mistake";
}

TEST(LearningRate, WithoutAWarmUpBeginsAtThePeakAndStaysAtItsLastFraction) {
  LearningRateConfig config = config_of("cosine", 0.1);
  config.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(config.learning_rate_at(0, 100), 3e-4);
  EXPECT_NEAR(config.learning_rate_at(100, 100), 3e-5, 1e-18);
  EXPECT_NEAR(config.learning_rate_at(500, 100), 3e-5, 1e-18);
}

TEST(LearningRate, RefusesUnknownSchedulesAndNumbersBeyondTheirRules) {
  LearningRateConfig config = config_of("exponential");
  try {
    config.check(100);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "`learning_rate_schedule`: found \"exponential\", expected constant, linear, "
                 "cosine, cosine_with_restarts or polynomial");
  }
  config = config_of("polynomial");
  EXPECT_NO_THROW(config.check(5));
  EXPECT_THROW(config.check(4), InputError);
  config.learning_rate_power = 0;
  EXPECT_THROW(config.check(5), InputError);
}

}  // namespace
}  // namespace ospnext
