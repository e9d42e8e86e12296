// ospnext plan --train: the settings with which a training fits its GPUs.
#pragma once

#include <cstdint>
#include <string>

#include "cli/flags_from_fields.h"
#include "engine/plan.h"

namespace ospnext {

// The flags of `plan` that only --train has, named as in `bench train`.
struct TrainingPlanFlags {
  int64_t layers = 0;
  int64_t batch_size = 1;
  int64_t accumulate = 1;
  int64_t lora_rank = 0;
  bool ema = true;
  std::string recompute = "auto";
  int64_t shard_group = 0;
  bool offload_activations = false;
  bool offload_optimizer = false;
  bool offload_weights = false;
  double gpu_memory = 139;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("layers", layers, "with --train: number of blocks instead of the model's own");
    field("batch_size", batch_size, "with --train: clips of a pass, of all GPUs together");
    field("accumulate", accumulate, "with --train: passes whose gradients a step averages");
    field("lora_rank", lora_rank,
          "with --train: rank of LoRA pairs on the projections of attention; 0: all weights are "
          "trained");
    field("ema", ema, "with --train: averaged weights are kept too");
    field("recompute", recompute,
          "with --train: none, attention, all or a number of blocks, as in train; auto: the "
          "fastest that fits");
    field("shard_group", shard_group,
          "with --train: GPUs in a row that divide weights and their state; 0: any number");
    field("offload_activations", offload_activations,
          "with --train: inputs of blocks wait in host memory");
    field("offload_optimizer", offload_optimizer,
          "with --train: moments and averages stay in host memory");
    field("offload_weights", offload_weights,
          "with --train: weights and gradients of the blocks stay in host memory");
    field("gpu_memory", gpu_memory, "with --train: GiB of a GPU");
  }
};

// Prints the settings that fit, the fastest first, or the smallest one and what makes it smaller.
// Throws InputError for flags without a setting.
void plan_training(const TrainingPlanFlags& flags, PlanSubject model, const MeshFields& mesh,
                   int gpus);

}  // namespace ospnext
