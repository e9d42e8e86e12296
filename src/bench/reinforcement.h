// Measures epochs of reinforcement learning with random weights and texts.
#pragma once

#include <ostream>

#include "bench/bench_config.h"
#include "core/cancel.h"
#include "rl/rl_config.h"

namespace ospnext {

// Configuration of `ospnext bench rl`.
struct RlBenchConfig {
  ModelSizeFields model_size;
  int64_t layers = 0;
  double reward_seconds_per_video = 2;
  RlConfig rl;  // of which the fields below are used

  RlBenchConfig() {
    rl.precision = "auto";
    rl.epochs = 1;
    rl.rollout.width = 832;
    rl.rollout.height = 480;
    rl.rollout.steps = 10;
    rl.rollout.window.sde_steps = 4;
    rl.rollout.batches_per_epoch = 2;
  }

  // The model and the video, as other benchmarks have them.
  BenchModelFields model() const;
  // Throws InputError with the flag, the value and the rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    model_size.visit(field);
    field("layers", layers, "number of blocks instead of the model's own; 0: as the model has");
    field("device", rl.device, "cpu, cuda, cuda:N or auto");
    field("precision", rl.precision,
          "arithmetic of rollouts and updates: float32, bf16, hif8 or auto");
    field("seed", rl.seed, "seed of every random draw but the weights");
    field("epochs", rl.epochs, "epochs to measure; a short one before them is not measured");
    field("reward_seconds_per_video", reward_seconds_per_video,
          "seconds that the reward sleeps for each video, as a slow service");
    rl.rollout.visit(field);
    rl.update.visit(field);
    rl.lora.visit(field);
    rl.checkpointing.visit(field);
    rl.mesh.visit(field);
    rl.world.visit(field);
  }
};

// `ospnext bench rl`: trains by PolicyObjective, with random weights, random texts and a reward
// that sleeps. Writes the seconds of the parts of an epoch, a rollout beside the engine's sampling
// with the same LoRA, an update beside its forward and backward passes, the GPU's idle time, memory
// and exchanges to `out`. All processes call it; the leader writes. Throws InputError for a
// configuration that does not fit.
void bench_reinforcement(const RlBenchConfig& config, std::ostream& out,
                         const CancellationToken& cancel);

}  // namespace ospnext
