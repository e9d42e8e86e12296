// The memory of one process that trains a transformer, counted from what the code keeps.
#pragma once

#include <cstdint>

#include "models/transformer_config.h"
#include "train/training_blocks.h"

namespace ospnext {

// What is trained, and where its state lies.
struct TrainedState {
  int64_t value_bytes = 2;  // of an activation, and of a gathered or frozen weight: the precision
  // Pairs of this rank on the eight projections of attention, over frozen weights; 0: all weights
  // are trained.
  int64_t lora_rank = 0;
  bool ema = true;
  bool offload_optimizer = false;  // moments and averages in host memory
  bool offload_weights = false;    // weights and gradients of the blocks in host memory
};

// Numbers of parameters.
struct ParameterCounts {
  int64_t block = 0;   // of one block
  int64_t around = 0;  // of embeddings and head, which every process has whole
  int64_t pairs = 0;   // of one block's LoRA pairs, which every process has whole
};
ParameterCounts count_parameters(const TransformerConfig& transformer, int64_t lora_rank);

// Trained parameters of one process, of which `shard_group` processes divide those of the blocks.
int64_t own_trained(const TransformerConfig& transformer, int64_t lora_rank, int shard_group);

// Bytes that autograd keeps of a block for a token, in a run whose products have no epilogues.
struct TokenBytes {
  int64_t input = 0;  // kept by a block that computes again
  int64_t attention =
      0;  // result and log-sum-exp of self-attention, kept with --recompute attention
  int64_t everything = 0;  // kept by a block that computes nothing again; `input` is part of it
  int64_t gradients = 0;   // beside a whole block at the peak of its backward pass
  int64_t head = 0;        // of the head and its gradients, while all blocks keep what they keep
};
TokenBytes token_bytes(const TransformerConfig& transformer, const TrainedState& state);

// Bytes on the GPU at the peak of a step: in the backward pass of the last blocks.
struct TrainingMemory {
  int64_t weights = 0, gradients = 0, moments = 0, averages = 0;
  int64_t activations = 0;
  int64_t gathered = 0;  // whole blocks of sharded or offloaded weights, and their gradients
  int64_t buffers = 0;   // weights in the precision of the run, and one gradient
  int64_t on_gpu() const;
  // In pinned host memory instead: what blocks keep, and weights, gradients, moments and averages.
  int64_t host_activations = 0, host_state = 0;
  int64_t on_host() const { return host_activations + host_state; }
};

// `tokens`: of the process with the most, in all its clips of a pass; `clips`: how many these are.
TrainingMemory training_memory(const TransformerConfig& transformer, const TrainedState& state,
                               const Checkpointing& checkpointing, int shard_group, int64_t tokens,
                               int64_t clips);

// How many of `blocks` blocks, the last ones, compute nothing again.
int64_t free_blocks(const Checkpointing& checkpointing, int64_t blocks);

}  // namespace ospnext
