// The settings with which a training fits the memory of its GPUs, the fastest first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/training_plan.h"

namespace ospnext {

// What the user has decided already.
struct TrainingWishes {
  MeshFields mesh;                 // 0 in a side: any
  int64_t shard_group = 0;         // 0: any
  std::string recompute = "auto";  // as in CheckpointingFields, or auto: any
  bool offload_activations = false;
  int64_t memory = 0;  // bytes of a GPU that a process may use
};

// A plan for each mesh and shard group of `gpus` processes that agree with the wishes. First come
// those that fit, the fastest first, then the others, the smallest first. Automatic recomputation
// is chosen for each in the same order, from all modes and numbers of blocks. Throws InputError for
// wishes that no setting meets.
std::vector<TrainingPlan> training_plans(int gpus, const TrainingWishes& wishes,
                                         const TrainingSubject& subject);

// What a setting recomputes, as in CheckpointingFields: "attention", "12".
std::string recompute_text(const Checkpointing& checkpointing);

// A change that makes a training smaller, and the least memory of a process with it.
struct SmallerTraining {
  std::string change;  // "`offload_activations`"
  int64_t bytes;
};
// Single changes of wishes or subject that need less than `bytes`, those that need least first.
std::vector<SmallerTraining> smaller_trainings(int gpus, const TrainingWishes& wishes,
                                               const TrainingSubject& subject, int64_t bytes);

}  // namespace ospnext
