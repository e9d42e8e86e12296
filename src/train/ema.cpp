#include "train/ema.h"

#include <algorithm>

namespace ospnext {

Ema::Ema(const NamedTensors& parameters, double decay) : decay_(decay) {
  for (const auto& [name, parameter] : parameters) {
    names_.push_back(name);
    parameters_.push_back(parameter);
    shadow_.push_back(parameter.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
  }
}

void Ema::update() {
  const at::NoGradGuard no_grad;
  const double n = static_cast<double>(updates_++);
  const double decay = std::min(decay_, (1.0 + n) / (10.0 + n));
  at::_foreach_lerp_(shadow_, parameters_, 1.0 - decay);
}

std::map<std::string, at::Tensor> Ema::shadow() const {
  std::map<std::string, at::Tensor> shadow;
  for (size_t i = 0; i < names_.size(); ++i) {
    shadow[names_[i]] = shadow_[i];
  }
  return shadow;
}

void Ema::load(const std::map<std::string, at::Tensor>& shadow, int64_t updates) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto found = shadow.find(names_[i]);
    TORCH_CHECK(found != shadow.end(), "EMA: ", names_[i], " is missing");
    TORCH_CHECK(found->second.sizes() == shadow_[i].sizes(), "EMA: ", names_[i],
                ": expected shape ", shadow_[i].sizes(), ", got ", found->second.sizes());
    shadow_[i].copy_(found->second);
  }
  updates_ = updates;
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
