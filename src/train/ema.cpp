#include "train/ema.h"

#include <algorithm>

#include "core/number_check.h"

namespace ospnext {

void EmaConfig::check(const std::string& prefix) const {
  constexpr double kBelowOne = 0.9999999;
  check_range("`" + prefix + "decay`", decay, 0.0, kBelowOne);
  check_range("`" + prefix + "every`", every, int64_t{1}, int64_t{1'000'000'000});
}

Ema::Ema(const std::vector<TrainedTensor>& parameters, const EmaConfig& config,
         const StateHome& home)
    : config_(config), home_(home), update_(home.device_of(parameters)) {
  const at::NoGradGuard no_grad;
  for (const bool offloaded : {false, true}) {
    Group& group = groups_.emplace_back(Group{offloaded});
    for (const TrainedTensor& one : parameters) {
      TORCH_CHECK(one.tensor.scalar_type() == at::kFloat, "EMA: ", one.name,
                  ": expected float32, got ", one.tensor.dtype());
      if (one.offloaded == offloaded) {
        group.names.push_back(one.name);
        group.parameters.push_back(one.tensor);
      }
    }
    group.shadow = home.zeros_like(group.parameters, home.device_of(parameters));
    for (size_t i = 0; i < group.shadow.size(); ++i) {
      group.shadow[i].copy_(group.parameters[i]);
    }
  }
}

void Ema::update() {
  if (++steps_ % config_.every != 0) {
    return;
  }
  const at::NoGradGuard no_grad;
  const int64_t before = steps_ / config_.every - 1;  // updates before this one
  const auto n = static_cast<double>(before);
  const double decay =
      config_.warm_up ? std::min(config_.decay, (1.0 + n) / (10.0 + n)) : config_.decay;
  for (const Group& group : groups_) {
    update_.run(
        {{group.shadow, home_.offload, /*written=*/true}, {group.parameters, group.offloaded}},
        [&](const UpdatedParts& parts) { at::_foreach_lerp_(parts[0], parts[1], 1.0 - decay); });
  }
}

std::map<std::string, at::Tensor> Ema::shadow() const {
  std::map<std::string, at::Tensor> shadow;
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      shadow[group.names[i]] = group.shadow[i];
    }
  }
  return shadow;
}

void Ema::load(const std::map<std::string, at::Tensor>& shadow, int64_t steps) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, own] : this->shadow()) {
    const auto found = shadow.find(name);
    TORCH_CHECK(found != shadow.end(), "EMA: ", name, " is missing");
    TORCH_CHECK(found->second.sizes() == own.sizes(), "EMA: ", name, ": expected shape ",
                own.sizes(), ", got ", found->second.sizes());
    own.copy_(found->second);
  }
  steps_ = steps;
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      const at::Tensor kept = group.parameters[i].clone();
      group.parameters[i].copy_(group.shadow[i]);
      group.shadow[i].copy_(kept);
    }
  }
}

}  // namespace ospnext
