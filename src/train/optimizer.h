// AdamW over named parameters.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "train/chunked_update.h"

namespace ospnext {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// The parameters of `module` that require gradients. `prefix` is put before each name.
NamedTensors named_parameters(const torch::nn::Module& module, const std::string& prefix);

// A tensor that is trained, whole or a shard.
struct TrainedTensor {
  std::string name;
  at::Tensor tensor;
  bool decays;             // whether weight decay acts on it
  bool offloaded = false;  // whether it and its gradient are in host memory
};

// Where an optimizer or an average keeps what it adds to the parameters.
struct StateHome {
  bool offload = false;  // in host memory, not on the device that computes
  // That device; nothing: the one of the parameters, none of which is offloaded.
  std::optional<at::Device> device = {};

  at::Device device_of(const std::vector<TrainedTensor>& tensors) const;
  // Zeros like the tensors.
  std::vector<at::Tensor> zeros_like(const std::vector<at::Tensor>& tensors,
                                     at::Device device) const;
};

// Tensors with two or more dimensions (weights) decay, the others (gains and biases) do not.
std::vector<TrainedTensor> with_decaying_weights(const NamedTensors& tensors);

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  // of the tensors that decay

  // Throws InputError naming field, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("beta1", beta1, "AdamW decay of the first moment");
    field("beta2", beta2, "AdamW decay of the second moment");
    field("epsilon", epsilon, "added to the root of AdamW's second moment");
    field("weight_decay", weight_decay, "decoupled weight decay; in trainings of matrices alone");
  }
};

// Adam with decoupled weight decay; one fused pass over all tensors of a group. Where tensors are
// kept changes no bit of them.
// Source: Loshchilov and Hutter 2019, arXiv 1711.05101.
class AdamW {
 public:
  // float32 or float64 tensors of any shapes.
  AdamW(const std::vector<TrainedTensor>& tensors, const AdamWConfig& config,
        const StateHome& home = {});
  AdamW(const NamedTensors& tensors, const AdamWConfig& config)
      : AdamW(with_decaying_weights(tensors), config) {}

  // Updates every parameter in place from its gradient. A missing gradient counts as zero.
  void step(double learning_rate);
  void zero_grad();

  // The moments by the tensors' names: the tensors themselves, so a checkpoint is read into them.
  std::map<std::string, at::Tensor> first_moments() const { return moments(&Group::first); }
  std::map<std::string, at::Tensor> second_moments() const { return moments(&Group::second); }
  // The number of steps that the moments stand for.
  void set_steps(int64_t steps);

 private:
  struct Group {
    bool decays, offloaded;
    std::vector<std::string> names = {};
    std::vector<at::Tensor> parameters = {}, first = {}, second = {};
  };
  std::vector<at::Tensor> gradients(const Group& group) const;
  std::map<std::string, at::Tensor> moments(std::vector<at::Tensor> Group::*which) const;

  AdamWConfig config_;
  StateHome home_;
  ChunkedUpdate update_;
  at::Tensor steps_;  // [] float32, on the device that computes
  std::vector<Group> groups_;
};

}  // namespace ospnext
