#include "schedulers/flow_matching.h"

#include <cmath>

#include "core/error.h"
#include "core/torch/random.h"

namespace ospnext {

at::Tensor shifted_sigma(const at::Tensor& sigma, double shift) {
  return shift * sigma / (1.0 + (shift - 1.0) * sigma);
}

Schedule flow_matching_schedule(int64_t steps, double shift) {
  if (steps < 1 || steps > 10000) {
    throw InputError("--steps: found " + std::to_string(steps) + ", expected 1 to 10000");
  }
  if (!std::isfinite(shift) || shift <= 0 || shift > 1000) {
    throw InputError("--shift: found " + std::to_string(shift) +
                     ", expected a number above 0 and at most 1000");
  }
  const at::Tensor even = torch::linspace(1, 0, steps + 1, torch::kFloat32);
  const at::Tensor sigmas = shifted_sigma(even, shift);
  return {sigmas, sigmas.slice(0, 0, steps) * 1000.0};
}

at::Tensor euler_step(const at::Tensor& latent, const at::Tensor& velocity, double sigma,
                      double next_sigma) {
  // The difference is rounded to float32 as the reference's is; a double here would differ.
  const float difference = static_cast<float>(next_sigma) - static_cast<float>(sigma);
  return latent.to(torch::kFloat32) + velocity.to(torch::kFloat32) * difference;
}

at::Tensor guided_velocity(const at::Tensor& conditional, const at::Tensor& unconditional,
                           double scale) {
  const at::Tensor base = unconditional.to(torch::kFloat32);
  return base + scale * (conditional.to(torch::kFloat32) - base);
}

at::Tensor initial_noise(uint64_t seed, int64_t channels, int64_t frames, int64_t height,
                         int64_t width) {
  return torch::randn({channels, frames, height, width}, noise_generator(seed),
                      torch::TensorOptions().dtype(torch::kBFloat16))
      .to(torch::kFloat32);
}

}  // namespace ospnext
