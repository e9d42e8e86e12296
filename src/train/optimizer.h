// AdamW over named parameters, the norm of gradients, and the learning-rate schedule.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// The trainable parameters of `module`, each name preceded by `prefix`.
NamedTensors named_parameters(const torch::nn::Module& module, const std::string& prefix);

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay =
      0.01;  // on tensors of two or more dimensions; gains and biases do not decay
};

// Decoupled weight decay (Loshchilov and Hutter 2019), one fused pass over all tensors of a group.
class AdamW {
 public:
  AdamW(NamedTensors parameters, const AdamWConfig& config);

  // Updates every parameter from its gradient; one without a gradient counts as gradient zero.
  void step(double learning_rate);
  void zero_grad();
  // L2 norm of all gradients together, a scalar on the parameters' device, after which the gradients are
  // scaled down so that their norm is at most `limit`.
  at::Tensor clip_gradients(double limit);

  // Moments and step count, by "first.<name>", "second.<name>" and "step".
  std::map<std::string, at::Tensor> state() const;
  // Throws c10::Error for a missing or misshapen entry.
  void load_state(const std::map<std::string, at::Tensor>& state);

 private:
  struct Group {
    double weight_decay;
    std::vector<std::string> names;
    std::vector<at::Tensor> parameters, first, second, steps;
  };
  std::vector<at::Tensor> gradients(const Group& group) const;

  AdamWConfig config_;
  std::vector<Group> groups_;
};

// Linear warm-up over `warmup_steps`, then half a cosine from `peak` down to `final_fraction`·peak at
// `total_steps`. `step` counts from 0.
double warmup_cosine(int64_t step, int64_t warmup_steps, int64_t total_steps, double peak,
                     double final_fraction);

}  // namespace ospnext
