#include "train/ema.h"

#include <algorithm>

#include "core/number_check.h"

namespace ospnext {

void EmaConfig::check(const std::string& prefix) const {
  constexpr double kBelowOne = 0.9999999;
  check_range("`" + prefix + "decay`", decay, 0.0, kBelowOne);
  check_range("`" + prefix + "every`", every, int64_t{1}, int64_t{1'000'000'000});
}

Ema::Ema(const NamedTensors& parameters, const EmaConfig& config) : config_(config) {
  for (const auto& [name, parameter] : parameters) {
    TORCH_CHECK(parameter.scalar_type() == at::kFloat, "EMA: ", name, ": expected float32, got ",
                parameter.dtype());
    names_.push_back(name);
    parameters_.push_back(parameter);
    shadow_.push_back(parameter.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
  }
}

void Ema::update() {
  if (++steps_ % config_.every != 0 || parameters_.empty()) {
    return;
  }
  const at::NoGradGuard no_grad;
  const double n = static_cast<double>(steps_ / config_.every - 1);  // updates before this one
  const double decay =
      config_.warm_up ? std::min(config_.decay, (1.0 + n) / (10.0 + n)) : config_.decay;
  at::_foreach_lerp_(shadow_, parameters_, 1.0 - decay);
}

std::map<std::string, at::Tensor> Ema::shadow() const {
  std::map<std::string, at::Tensor> shadow;
  for (size_t i = 0; i < names_.size(); ++i) {
    shadow[names_[i]] = shadow_[i];
  }
  return shadow;
}

void Ema::load(const std::map<std::string, at::Tensor>& shadow, int64_t steps) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto found = shadow.find(names_[i]);
    TORCH_CHECK(found != shadow.end(), "EMA: ", names_[i], " is missing");
    TORCH_CHECK(found->second.sizes() == shadow_[i].sizes(), "EMA: ", names_[i],
                ": expected shape ", shadow_[i].sizes(), ", got ", found->second.sizes());
    shadow_[i].copy_(found->second);
  }
  steps_ = steps;
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor kept = parameters_[i].clone();
    parameters_[i].copy_(shadow_[i]);
    shadow_[i].copy_(kept);
  }
}

}  // namespace ospnext
