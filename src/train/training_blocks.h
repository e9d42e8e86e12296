// How the blocks of a transformer run in training: when their weights are there, and what is kept
// for the backward pass.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/transformer.h"

namespace ospnext {

// What a block keeps of its forward pass for its gradient (activation checkpointing). It computes
// the rest again.
struct Checkpointing {
  enum class Kept {
    kEverything,  // nothing is computed again
    kAttention,   // its input, and the result of self-attention
    kInput,
  };
  Kept kept = Kept::kEverything;
  int64_t free_blocks = 0;      // so many blocks, the last ones, keep everything
  bool in_host_memory = false;  // inputs of blocks are kept in host memory, not on their GPU
};

// The flags for it, and for where blocks keep their weights.
struct CheckpointingFields {
  std::string recompute = "none";
  bool offload_activations = false;
  bool offload_weights = false;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("recompute", recompute,
          "what blocks compute again in the backward pass, to save memory: none; all; attention: "
          "all but self-attention; or N: all, but nothing in the last N blocks");
    field("offload_activations", offload_activations,
          "keep the inputs of blocks that compute again in host memory");
    field("offload_weights", offload_weights,
          "keep weights and gradients of blocks that compute again in host memory; the weights are "
          "copied to the device block by block, ahead of use");
  }

  // Throws InputError naming the field, the value and the rule.
  Checkpointing parse() const;
};

// How a transformer computes in training, with products in `dtype`.
Numerics training_numerics(at::ScalarType dtype);

// Makes all weights of a transformer need gradients, for products in `dtype`. They stay in float32.
void train_all_weights(Transformer& transformer, at::ScalarType dtype);

// Runs the blocks of one transformer in passes with gradients; a pass without, as for validation,
// needs no runner. The transformer is one rank's among those that shard its weights, if any do.
// Gradients of sharded weights are summed over these ranks after each block. A block that needs no
// gradients, since neither it nor anything before it is trained, keeps nothing.
class TrainingBlocks : public BlockRunner {
 public:
  // The transformer must outlive the object, and the object all gradients of what it ran.
  TrainingBlocks(Transformer& transformer, const Checkpointing& checkpointing);

  at::Tensor run(size_t i, const BlockFunction& function, const std::vector<at::Tensor>& inputs,
                 const Execution& run) override;

 private:
  bool keeps_everything(size_t i) const;
  bool needs_gradients(size_t i, const std::vector<at::Tensor>& inputs) const;
  at::Tensor run_without_gradients(size_t i, const BlockFunction& function,
                                   const std::vector<at::Tensor>& inputs, const Execution& run);
  at::Tensor run_once(size_t i, const BlockFunction& function,
                      const std::vector<at::Tensor>& inputs, const Execution& run);
  at::Tensor run_twice(size_t i, const BlockFunction& function,
                       const std::vector<at::Tensor>& inputs, const Execution& run);
  // The next blocks that need weights, in the forward and in the backward pass.
  std::vector<size_t> after(size_t i) const;
  std::vector<size_t> before(size_t i) const;

  Transformer transformer_;
  Checkpointing checkpointing_;
  size_t count_;  // of blocks
};

}  // namespace ospnext
