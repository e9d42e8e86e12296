// The tensors that a training changes, on any mesh: whole, the same in all processes, or this
// process's shards of the blocks' weights.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "models/transformer.h"
#include "train/chunked_update.h"
#include "train/optimizer.h"
#include "train/training_ranks.h"

namespace ospnext {

// A trained tensor, or this process's part of one.
struct TrainedPart {
  std::string name;
  at::Tensor tensor;           // float32: the whole tensor, or [n] elements of it from `first` on
  std::vector<int64_t> shape;  // of the whole tensor
  int64_t first = 0;
  bool is_shard = false;
  bool offloaded = false;  // in host memory, with its gradient
};

class TrainedParameters {
 public:
  // `whole` tensors, which are the same in all processes. If `shards` is not null, also the shards
  // of all blocks' weights that need gradients, under the names PREFIX.blocks.0.NAME, ...; they get
  // their gradients from here on, and must outlive the object.
  // NOLINTNEXTLINE(google-explicit-constructor): most trainings have only whole tensors.
  TrainedParameters(const NamedTensors& whole, const TrainingRanks& ranks = {},
                    ShardedWeights* shards = nullptr, const std::string& prefix = "");

  const std::vector<TrainedPart>& parts() const { return parts_; }
  const TrainingRanks& ranks() const { return ranks_; }
  // What the tensors belong to, for those who read a checkpoint: the sizes of the models, or a
  // LoRA's configuration. A training goes on only from a checkpoint with the same; null: unknown.
  const nlohmann::json& model() const { return model_; }
  void set_model(nlohmann::json model) { model_ = std::move(model); }
  // Which computes with them.
  at::Device device() const { return device_; }
  // The parts that are not empty, with their names; matrices decay.
  std::vector<TrainedTensor> tensors() const;

  // Call it on all processes after the backward passes of a step. Turns the gradients, sums over
  // this process's `passes` losses, into those of the mean of all processes' losses.
  void average_gradients(int64_t passes);
  // The joint L2 norm of all gradients, a scalar on their device.
  at::Tensor gradient_norm() const;
  // Multiplies all gradients. factor: a scalar on their device.
  void scale_gradients(const at::Tensor& factor);
  // Scales all gradients down so that their joint norm is at most `limit`. Returns the norm before.
  at::Tensor clip_gradients(double limit);

  // `tensors` by name, each like a part's tensor that is not empty -> whole tensors in host memory,
  // on rank 0; other processes get nothing. All processes call it.
  std::map<std::string, at::Tensor> whole(const std::map<std::string, at::Tensor>& tensors) const;

 private:
  UpdatedTensors gradients(bool of_shards) const;

  ShardedWeights* shards_;
  TrainingRanks ranks_;
  std::vector<TrainedPart> parts_;
  nlohmann::json model_;
  at::Device device_;
  ChunkedUpdate update_;
};

// The parameters of a transformer that need gradients and that every process has whole.
NamedTensors whole_parameters(Transformer& transformer, const std::string& prefix);

}  // namespace ospnext
