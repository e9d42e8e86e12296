#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/number_check.h"

namespace ospnext {

NamedTensors named_parameters(const torch::nn::Module& module, const std::string& prefix) {
  NamedTensors named;
  for (const auto& entry : module.named_parameters()) {
    if (entry.value().requires_grad()) {
      named.emplace_back(prefix + entry.key(), entry.value());
    }
  }
  return named;
}

std::vector<TrainedTensor> with_decaying_weights(const NamedTensors& tensors) {
  std::vector<TrainedTensor> trained;
  for (const auto& [name, tensor] : tensors) {
    trained.push_back({name, tensor, tensor.dim() >= 2});
  }
  return trained;
}

void AdamWConfig::check() const {
  constexpr double kBelowOne = 0.9999999;
  check_range("`beta1`", beta1, 0.0, kBelowOne);
  check_range("`beta2`", beta2, 0.0, kBelowOne);
  check_range("`epsilon`", epsilon, 0.0, 1.0);
  check_range("`weight_decay`", weight_decay, 0.0, 1.0);
}

AdamW::AdamW(const std::vector<TrainedTensor>& tensors, const AdamWConfig& config)
    : config_(config) {
  groups_ = {Group{.weight_decay = config.weight_decay,
                   .names = {},
                   .parameters = {},
                   .first = {},
                   .second = {},
                   .steps = {}},
             Group{.weight_decay = 0.0,
                   .names = {},
                   .parameters = {},
                   .first = {},
                   .second = {},
                   .steps = {}}};
  for (const auto& [name, parameter, decays] : tensors) {
    Group& group = groups_[decays ? 0 : 1];
    group.names.push_back(name);
    group.parameters.push_back(parameter);
    group.first.push_back(at::zeros_like(parameter));
    group.second.push_back(at::zeros_like(parameter));
    group.steps.push_back(at::zeros({}, parameter.options().dtype(at::kFloat)));
  }
  zero_grad();
}

std::vector<at::Tensor> AdamW::gradients(const Group& group) const {
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : group.parameters) {
    if (!parameter.grad().defined()) {
      parameter.mutable_grad() = at::zeros_like(parameter);
    }
    gradients.push_back(parameter.grad());
  }
  return gradients;
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  for (Group& group : groups_) {
    if (group.parameters.empty()) {
      continue;
    }
    at::_foreach_add_(group.steps, 1);
    at::_fused_adamw_(group.parameters, gradients(group), group.first, group.second, {},
                      group.steps, learning_rate, config_.beta1, config_.beta2, group.weight_decay,
                      config_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

void AdamW::zero_grad() {
  const at::NoGradGuard no_grad;
  for (const Group& group : groups_) {
    if (!group.parameters.empty()) {
      at::_foreach_zero_(gradients(group));
    }
  }
}

std::map<std::string, at::Tensor> AdamW::moments(std::vector<at::Tensor> Group::*which) const {
  std::map<std::string, at::Tensor> moments;
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      moments[group.names[i]] = (group.*which)[i];
    }
  }
  return moments;
}

void AdamW::set_steps(int64_t steps) {
  for (Group& group : groups_) {
    for (at::Tensor& count : group.steps) {
      count.fill_(steps);
    }
  }
}

double warmup_cosine(int64_t step, int64_t warmup_steps, int64_t total_steps, double peak,
                     double final_fraction) {
  if (step < warmup_steps) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  }
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  const double done = std::min(1.0, static_cast<double>(step - warmup_steps) / span);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return peak * (final_fraction + (1.0 - final_fraction) * cosine);
}

}  // namespace ospnext
