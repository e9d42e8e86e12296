// Measures steps of training with random weights and data.
#pragma once

#include <ostream>

#include "bench/bench_config.h"
#include "core/cancel.h"
#include "engine/join_world.h"
#include "train/training_blocks.h"
#include "train/training_ranks.h"
#include "train/training_run.h"

namespace ospnext {

// Configuration of `ospnext bench train`.
struct TrainingBenchConfig {
  BenchModelFields model;
  int64_t layers = 0;
  int64_t batch_size = 1;
  int64_t accumulate = 1;
  bool ema = true;
  bool offload_optimizer = false;
  int64_t steps = 6;
  int64_t kernels = 0;
  bool deterministic = false;  // the program must have called compute_deterministically()
  TrainingMeshFields mesh;
  CheckpointingFields checkpointing;
  WorldFields world;

  // Throws InputError with the flag, the value and the rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    field("layers", layers, "number of blocks instead of the model's own; 0: as the model has");
    field("batch_size", batch_size, "clips of a pass, of all processes together");
    field("accumulate", accumulate, "passes whose gradients a step averages");
    field("ema", ema, "keep averaged weights too");
    field("offload_optimizer", offload_optimizer, kOffloadOptimizerHelp);
    field("steps", steps, "optimizer steps; the first one is not measured");
    field("kernels", kernels,
          "on a GPU, also print so many kernels of one more step of the first process: those that "
          "take longest");
    field("deterministic", deterministic, "let GPUs add in a fixed order, as train does");
    mesh.visit(field);
    checkpointing.visit(field);
    world.visit(field);
  }
};

// `ospnext bench train`: trains all weights of the transformer on random latents and text, with
// AdamW, and writes the seconds of a step (the median), samples/s, model TFLOP/s of a process, peak
// memory, the exchanges by kind, and `kernels` to `out`. Model FLOPs are three times those of the
// forward pass, whatever is computed again. All processes call it; the leader writes. Throws
// InputError for a configuration that does not fit.
void bench_training(const TrainingBenchConfig& config, std::ostream& out,
                    const CancellationToken& cancel);

}  // namespace ospnext
