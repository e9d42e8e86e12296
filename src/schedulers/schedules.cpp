#include "schedulers/schedules.h"

#include <algorithm>
#include <cmath>

namespace ospnext {
namespace {

constexpr double kTrainSteps = 1000;

// Even steps from `first` to `last`, both included -> [steps + 1] float64. Computed as
// i·step + first, which rounds as numpy.linspace does; torch.linspace counts its second half from
// the end.
at::Tensor even_levels(double first, double last, int64_t steps) {
  const double step = (last - first) / static_cast<double>(steps);
  at::Tensor levels = torch::arange(steps + 1, torch::kFloat64) * step + first;
  levels[steps] = last;
  return levels;
}

}  // namespace

at::Tensor shifted_sigma(const at::Tensor& sigma, double shift) {
  return shift * sigma / (1.0 + (shift - 1.0) * sigma);
}

double dynamic_shift(int64_t height, int64_t width) {
  constexpr double kFewTokens = 256, kManyTokens = 4096;
  constexpr double kFewExponent = 0.5, kManyExponent = 1.15;
  constexpr double kSlope = (kManyExponent - kFewExponent) / (kManyTokens - kFewTokens);
  const int64_t tokens = height * width / 4;
  return std::exp(kFewExponent + kSlope * (static_cast<double>(tokens) - kFewTokens));
}

at::Tensor logit_normal_sigma(const at::Tensor& normal, double shift) {
  return shifted_sigma(normal.sigmoid(), shift);
}

at::Tensor euler_levels(int64_t steps, double shift) {
  return shifted_sigma(torch::linspace(1, 0, steps + 1, torch::kFloat32).slice(0, 0, steps), shift);
}

at::Tensor unipc_levels(int64_t steps, double shift) {
  return shifted_sigma(even_levels(0.999f, 0, steps).slice(0, 0, steps), shift);
}

at::Tensor dpm_levels(int64_t steps, double shift) {
  return shifted_sigma(even_levels(1, 0, steps).slice(0, 0, steps), shift);
}

at::Tensor diffusers_unipc_levels(int64_t steps, double shift) {
  return shifted_sigma(even_levels(1, 1 / kTrainSteps, steps).slice(0, 0, steps), shift);
}

at::Tensor diffusers_unipc_036_levels(int64_t steps, double shift) {
  const at::Tensor rising = 1.0 - even_levels(1, 1 / kTrainSteps, steps);  // 0 to 0.999
  return shifted_sigma(rising, shift).flip(0).slice(0, 0, steps);
}

at::Tensor diffusers_euler_levels(int64_t steps, double shift) {
  const at::Tensor ends = shifted_sigma(torch::tensor({1.0f, 1e-3f}), shift);
  const double first = ends[0].item<double>() * kTrainSteps;
  const double last = ends[1].item<double>() * kTrainSteps;
  const at::Tensor times =
      steps == 1 ? torch::full({1}, first, torch::kFloat64) : even_levels(first, last, steps - 1);
  return shifted_sigma(times / kTrainSteps, shift);
}

at::Tensor flash_levels(int64_t steps, double shift, int64_t last, double ratio) {
  TORCH_CHECK(0 <= last && last < steps && 0 < ratio && ratio <= 1, "flash_levels: level ", last,
              " of ", steps, ", ratio ", ratio);
  const auto count = std::max(static_cast<int64_t>(static_cast<double>(steps - last) * ratio),
                              int64_t{1});  // the final 0 included
  const auto start = torch::linspace(1, 0, steps + 1, torch::kFloat32)[last + 1].item<float>();
  const at::Tensor rest = torch::linspace(start, 0, count, torch::kFloat32).slice(0, 0, count - 1);
  return at::cat({euler_levels(steps, shift).slice(0, 0, last + 1), shifted_sigma(rest, shift)});
}

Schedule exact_schedule(const at::Tensor& levels) {
  const at::Tensor sigmas = levels.to(torch::kFloat32);
  return {torch::constant_pad_nd(sigmas, {0, 1}), sigmas * kTrainSteps};
}

Schedule whole_schedule(const at::Tensor& levels) {
  return {torch::constant_pad_nd(levels.to(torch::kFloat32), {0, 1}),
          (levels.to(torch::kFloat64) * kTrainSteps).trunc().to(torch::kFloat32)};
}

Schedule whole_schedule_below_one(const at::Tensor& levels) {
  constexpr double kBelow = 1e-6;
  at::Tensor lowered = levels.clone();
  if (std::abs(lowered[0].item<double>() - 1) < kBelow) {
    lowered[0] -= kBelow;
  }
  return whole_schedule(lowered);
}

}  // namespace ospnext
