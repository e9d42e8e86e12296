// Predicts memory and seconds of a step of training on a mesh of GPUs, from measured blocks and
// counted bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/pass_work.h"
#include "engine/plan.h"
#include "train/training_memory.h"

namespace ospnext {

// A training, without its mesh.
struct TrainingSubject {
  PlanSubject model;  // transformer, tokens of a clip, costs of a block, speed of the link
  TrainedState state;
  int64_t batch_size = 1;  // clips of a pass, of all processes together
  int64_t accumulate = 1;  // passes of a step
  // Of an H200, as reached by passes over weights and moments.
  double memory_bandwidth = 3.5e12;  // bytes per second
};

// What a plan chooses.
struct TrainingSetting {
  Mesh mesh;
  int shard_group = 1;
  Checkpointing checkpointing;
};

// A step of one process; of the busiest where they differ.
struct TrainingPlan {
  TrainingSetting setting;
  TrainingMemory memory;
  double compute = 0;    // seconds of forward and backward passes
  double optimizer = 0;  // seconds of casts, clipping, AdamW and averages
  double exchange = 0;   // seconds that computation waits for other processes
  double transfer = 0;   // seconds that computation waits for host memory
  int64_t bytes = 0;     // sent to other processes
  double seconds() const { return compute + optimizer + exchange + transfer; }
};

// Predicts a setting. `blocks`: pass_work() of its mesh.
//
// A block's forward and backward passes take multiples of its forward pass in inference, which
// docs/training.md derives from measured steps. Computation waits for exchanges between layouts and
// heads and for sums of whole gradients. Gathers of weights, exchanges of a block's gradients, and
// keys of a ring only cost what they take beyond the computation beside them.
TrainingPlan predict_training(const TrainingSetting& setting, const TrainingSubject& subject,
                              const std::vector<BlockWork>& blocks);

// Floating-point operations of the model in a step: three times those of the forward passes.
double training_flops(const TrainingSubject& subject);

}  // namespace ospnext
