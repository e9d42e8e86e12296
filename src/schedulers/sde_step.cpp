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

// The cells of x as dimensions of their own.
at::Tensor split_in_cells(const NoiseCells& cells, const at::Tensor& x) {
  const auto [f, s] = cells;
  TORCH_CHECK(x.dim() == 5 && x.size(2) % f == 0 && x.size(3) % s == 0 && x.size(4) % s == 0,
              "noise cells of ", f, " frames and ", s, " x ", s, " numbers, a latent of ",
              x.sizes());
  const std::vector<int64_t> split = {x.size(0),     x.size(1), x.size(2) / f, f,
                                      x.size(3) / s, s,         x.size(4) / s, s};
  return x.reshape(split);  // [B, C, F/f, f, h/s, s, w/s, s]
}

// P: each number becomes the mean of its cell.
at::Tensor mean_of_cells(const NoiseCells& cells, const at::Tensor& x) {
  if (cells.numbers() == 1) {
    return x;
  }
  const at::Tensor split = split_in_cells(cells, x);
  const at::Tensor means = split.mean({3, 5, 7}, /*keepdim=*/true);
  return means.expand_as(split).reshape(x.sizes());  // [B, C, F, h, w]
}

}  // namespace

at::Tensor noise_coordinates(const NoiseCells& cells, const at::Tensor& x) {
  if (cells.numbers() == 1) {
    return x;
  }
  const double root = std::sqrt(static_cast<double>(cells.numbers()));
  return split_in_cells(cells, x).sum({3, 5, 7}) / root;  // [B, C, F/f, h/s, w/s]
}

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
  at::Tensor mean;
  if (rule.kind == SdeKind::kDance) {
    const at::Tensor score = -(x - (1 - sigma) * (x - sigma * v)) / (sigma * sigma);
    mean = x + dt * v - strength * strength / 2 * dt * score;
  } else {
    mean = x * (1 + pull * dt) + v * ((1 + pull * (1 - sigma)) * dt);
  }
  if (rule.cells.numbers() > 1) {
    const at::Tensor without_noise = x + v * dt;
    mean = without_noise + mean_of_cells(rule.cells, mean - without_noise);
  }
  return {mean, std, rule.cells};
}

at::Tensor drawn_latent(const SdeStep& step, const at::Tensor& noise) {
  return (step.mean + step.std * mean_of_cells(step.cells, noise.to(at::kDouble))).to(at::kFloat);
}

at::Tensor log_density(const SdeStep& step, const at::Tensor& next) {
  const at::Tensor distance =
      noise_coordinates(step.cells, next.detach().to(at::kDouble) - step.mean) / step.std;
  const at::Tensor squares = distance.square().reshape({distance.size(0), -1});  // [B, n]
  return -squares.mean(1) / 2 - (std::log(step.std) + std::log(2 * std::numbers::pi) / 2);
}

}  // namespace ospnext
