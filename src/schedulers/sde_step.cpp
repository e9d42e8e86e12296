#include "schedulers/sde_step.h"

#include <cmath>
#include <numbers>

namespace ospnext {
namespace {

// The strength s of the noise at a level: the square of it is the diffusion per unit of sigma.
double noise_strength(const SdeRule& rule, double sigma) {
  switch (rule.kind) {
    case SdeKind::kOsp:
      return sigma;
    case SdeKind::kMix: {
      const double level = sigma == 1 ? rule.first_sigma : sigma;
      return rule.eta * std::sqrt(sigma / (1 - level));
    }
    case SdeKind::kDance:
      return rule.eta;
  }
  TORCH_CHECK(false, "unknown kind of a step with noise");
}

}  // namespace

SdeStep sde_step(const SdeRule& rule, const at::Tensor& latent, const at::Tensor& velocity,
                 double sigma, double next_sigma) {
  TORCH_CHECK(0 <= next_sigma && next_sigma < sigma && sigma <= 1, "sde_step: levels ", sigma,
              " and ", next_sigma);
  TORCH_CHECK(rule.kind == SdeKind::kOsp || rule.eta > 0, "sde_step: eta ", rule.eta);
  TORCH_CHECK(rule.kind != SdeKind::kMix || sigma < 1 || rule.first_sigma < 1,
              "sde_step: first_sigma ", rule.first_sigma);
  TORCH_CHECK(latent.sizes() == velocity.sizes(), "sde_step: latent and velocity differ in shape");
  const at::Tensor x = latent.to(at::kDouble);
  const at::Tensor v = velocity.to(at::kDouble);
  const double dt = next_sigma - sigma;
  const double strength = noise_strength(rule, sigma);
  const double std = strength * std::sqrt(-dt);
  const double pull = strength * strength / (2 * sigma);
  if (rule.kind == SdeKind::kDance) {
    const at::Tensor score = -(x - (1 - sigma) * (x - sigma * v)) / (sigma * sigma);
    return {x + dt * v - strength * strength / 2 * dt * score, std};
  }
  return {x * (1 + pull * dt) + v * ((1 + pull * (1 - sigma)) * dt), std};
}

at::Tensor drawn_latent(const SdeStep& step, const at::Tensor& noise) {
  return (step.mean + step.std * noise.to(at::kDouble)).to(at::kFloat);
}

at::Tensor log_density(const SdeStep& step, const at::Tensor& next) {
  const at::Tensor distance = (next.detach().to(at::kDouble) - step.mean) / step.std;
  const at::Tensor squares = distance.square().reshape({distance.size(0), -1});  // [B, n]
  return -squares.mean(1) / 2 - (std::log(step.std) + std::log(2 * std::numbers::pi) / 2);
}

}  // namespace ospnext
