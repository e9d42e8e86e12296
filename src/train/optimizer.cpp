#include "train/optimizer.h"

#include <algorithm>

#include "core/number_check.h"
#include "core/torch/host_memory.h"

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

at::Device StateHome::device_of(const std::vector<TrainedTensor>& tensors) const {
  return device.value_or(tensors.empty() ? at::kCPU : tensors.front().tensor.device());
}

std::vector<at::Tensor> StateHome::zeros_like(const std::vector<at::Tensor>& tensors,
                                              at::Device device) const {
  if (offload) {
    return host_zeros_like(tensors, device);
  }
  std::vector<at::Tensor> zeros;
  zeros.reserve(tensors.size());
  for (const at::Tensor& x : tensors) {
    zeros.push_back(at::zeros_like(x, x.options().device(device).requires_grad(false)));
  }
  return zeros;
}

AdamW::AdamW(const std::vector<TrainedTensor>& tensors, const AdamWConfig& config,
             const StateHome& home)
    : config_(config), home_(home), update_(home.device_of(tensors)) {
  const at::Device device = home.device_of(tensors);
  steps_ = at::zeros({}, at::TensorOptions(device).dtype(at::kFloat));
  for (const bool decays : {true, false}) {
    for (const bool offloaded : {false, true}) {
      Group& group = groups_.emplace_back(Group{decays, offloaded});
      for (const TrainedTensor& one : tensors) {
        if (one.decays == decays && one.offloaded == offloaded) {
          group.names.push_back(one.name);
          group.parameters.push_back(one.tensor);
        }
      }
      group.first = home.zeros_like(group.parameters, device);
      group.second = home.zeros_like(group.parameters, device);
    }
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
  steps_.add_(1);
  for (const Group& group : groups_) {
    update_.run({{group.parameters, group.offloaded, /*written=*/true},
                 {gradients(group), group.offloaded},
                 {group.first, home_.offload, /*written=*/true},
                 {group.second, home_.offload, /*written=*/true}},
                [&](const UpdatedParts& parts) {
                  const std::vector<at::Tensor> steps(parts[0].size(), steps_);
                  at::_fused_adamw_(parts[0], parts[1], parts[2], parts[3], {}, steps,
                                    learning_rate, config_.beta1, config_.beta2,
                                    group.decays ? config_.weight_decay : 0.0, config_.epsilon,
                                    /*amsgrad=*/false, /*maximize=*/false);
                });
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
  steps_.fill_(steps);
}

}  // namespace ospnext
