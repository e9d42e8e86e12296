// Noise levels of trainings against OSP-Next's formulas in float64
// (tools/make_training_fixtures.py).
#include "schedulers/schedules.h"

#include <gtest/gtest.h>

#include <string>

#include "io/weights.h"
#include "support/compare.h"
#include "support/paths.h"

namespace ospnext {
namespace {

constexpr double kSingleOperation = 1e-6;  // of the largest value: a few float32 roundings

at::Tensor fixture(const std::string& name) {
  static const auto tensors = read_tensors(fixture_path("training/noise_levels.safetensors"));
  return tensors.at(name);
}

TEST(TrainingLevels, FollowOspNext) {
  for (const std::string shift : {"1", "3", "7"}) {
    const double number = std::stod(shift);
    const at::Tensor normal = logit_normal_sigma(fixture("normal"), number);
    const at::Tensor uniform = shifted_sigma(fixture("uniform"), number);
    EXPECT_EQ(normal.scalar_type(), at::kFloat);
    EXPECT_LT(relative_max(normal, fixture("sigma_normal_" + shift)), kSingleOperation) << shift;
    EXPECT_LT(relative_max(uniform, fixture("sigma_uniform_" + shift)), kSingleOperation) << shift;
    EXPECT_GT(relative_max(logit_normal_sigma(fixture("normal"), 1.01 * number),
                           fixture("sigma_normal_" + shift)),
              1e-3)
        << "a planted mistake";
  }
}

TEST(TrainingLevels, HaveTheShiftedMedianAndStayInside) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const at::Tensor sigma = logit_normal_sigma(at::randn({20000}, generator), 3.0);
  EXPECT_GT(sigma.min().item<double>(), 0.0);
  EXPECT_LT(sigma.max().item<double>(), 1.0);
  EXPECT_NEAR(sigma.median().item<double>(), 0.75, 0.01);  // sigmoid(0) = 1/2, shifted by 3
}

TEST(DynamicShift, GrowsWithTheTokensOfAFrame) {
  for (const auto& [height, width] :
       {std::pair(90, 160), std::pair(60, 104), std::pair(16, 16), std::pair(2, 6)}) {
    const std::string size = std::to_string(height) + "x" + std::to_string(width);
    const double expected = fixture("shift_" + size).item<double>();
    EXPECT_NEAR(dynamic_shift(height, width), expected, 1e-12 * expected) << size;
    EXPECT_EQ(dynamic_shift(height, width), dynamic_shift(width, height)) << size;
  }
  EXPECT_NEAR(dynamic_shift(90, 160), 2.9039, 1e-4);  // 720P
  EXPECT_NEAR(dynamic_shift(60, 104), 2.0559, 1e-4);  // 480P
  EXPECT_NEAR(dynamic_shift(32, 32), std::exp(0.5), 1e-12);
  EXPECT_EQ(dynamic_shift(3, 5), dynamic_shift(2, 6));  // both have three whole tokens
}

}  // namespace
}  // namespace ospnext
