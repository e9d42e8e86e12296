#include "schedulers/flow_matching.h"

#include "core/torch/random.h"

namespace ospnext {

at::Tensor euler_step(const at::Tensor& latent, const at::Tensor& velocity, double sigma,
                      double next_sigma) {
  // In float32, as in the reference. A double would give another result.
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
