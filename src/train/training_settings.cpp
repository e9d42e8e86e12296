#include "train/training_settings.h"

#include <algorithm>

#include "core/error.h"
#include "engine/work_ranks.h"

namespace ospnext {
namespace {

// The meshes that agree with the wishes and divide the batch.
std::vector<Mesh> wished_meshes(int gpus, const MeshFields& wishes,
                                const TrainingSubject& subject) {
  const MeshSubject meshes = mesh_subject(subject.model.transformer, subject.batch_size, false);
  choose_mesh(gpus, wishes, meshes);  // refuses wishes that no mesh meets
  std::vector<Mesh> found;
  for (const Mesh& mesh : possible_meshes(gpus, meshes)) {
    const auto agrees = [](int64_t wish, int side) { return wish == 0 || wish == side; };
    if (agrees(wishes.data_parallel, mesh.data) && agrees(wishes.ssp, mesh.sequence.ssp) &&
        agrees(wishes.ulysses, mesh.sequence.ulysses) && agrees(wishes.ring, mesh.sequence.ring) &&
        subject.batch_size % mesh.data == 0) {
      found.push_back(mesh);
    }
  }
  if (found.empty()) {
    throw InputError("`batch_size`: found " + std::to_string(subject.batch_size) +
                     " clip(s) for a mesh with these flags on " + std::to_string(gpus) +
                     " GPU(s), expected a number that `data_parallel` divides");
  }
  return found;
}

std::vector<int> wished_shard_groups(int gpus, int64_t wish) {
  std::vector<int> groups;
  for (int group = 1; group <= gpus; ++group) {
    if (gpus % group == 0 && (wish == 0 || wish == group)) {
      groups.push_back(group);
    }
  }
  if (groups.empty()) {
    throw InputError("`shard_group`: found " + std::to_string(wish) + " for " +
                     std::to_string(gpus) + " GPU(s), expected 0 or a number that divides " +
                     std::to_string(gpus));
  }
  return groups;
}

// What blocks may keep. Automatic: nothing, attention, inputs, and inputs with 1 to all but one
// block that computes nothing again.
std::vector<Checkpointing> wished_checkpointings(const TrainingWishes& wishes,
                                                 const TrainingSubject& subject) {
  using Kept = Checkpointing::Kept;
  const bool in_host = wishes.offload_activations;
  if (wishes.recompute != "auto") {
    const Checkpointing wished = CheckpointingFields{wishes.recompute, in_host}.parse();
    if (wished.kept == Kept::kEverything && subject.state.offload_weights) {
      throw InputError(
          "`offload_weights`: found with `recompute` none, expected blocks that compute again");
    }
    return {wished};
  }
  std::vector<Checkpointing> all{{Kept::kAttention, 0, in_host}};
  if (!in_host && !subject.state.offload_weights) {
    all.push_back({Kept::kEverything, 0, false});
  }
  for (int64_t free = 0; free < subject.model.transformer.num_layers; ++free) {
    all.push_back({Kept::kInput, free, in_host});
  }
  return all;
}

// Whether plan a is the better one for GPUs with `memory` bytes.
bool is_better(const TrainingPlan& a, const TrainingPlan& b, int64_t memory) {
  const int64_t of_a = a.memory.on_gpu(), of_b = b.memory.on_gpu();
  const bool a_fits = of_a <= memory, b_fits = of_b <= memory;
  return a_fits != b_fits ? a_fits : a_fits ? a.seconds() < b.seconds() : of_a < of_b;
}

int64_t least_memory(const std::vector<TrainingPlan>& plans) {
  int64_t least = plans.front().memory.on_gpu();
  for (const TrainingPlan& plan : plans) {
    least = std::min(least, plan.memory.on_gpu());
  }
  return least;
}

}  // namespace

std::vector<TrainingPlan> training_plans(int gpus, const TrainingWishes& wishes,
                                         const TrainingSubject& subject) {
  const std::vector<int> groups = wished_shard_groups(gpus, wishes.shard_group);
  const auto kept = wished_checkpointings(wishes, subject);
  const auto better = [&](const TrainingPlan& a, const TrainingPlan& b) {
    return is_better(a, b, wishes.memory);
  };
  std::vector<TrainingPlan> plans;
  for (const Mesh& mesh : wished_meshes(gpus, wishes.mesh, subject)) {
    const auto blocks = pass_work(subject.model.transformer, subject.model.grid, mesh.sequence);
    for (const int group : groups) {
      std::vector<TrainingPlan> alike;
      for (const Checkpointing& checkpointing : kept) {
        alike.push_back(predict_training({mesh, group, checkpointing}, subject, blocks));
      }
      plans.push_back(*std::min_element(alike.begin(), alike.end(), better));
    }
  }
  std::stable_sort(plans.begin(), plans.end(), better);
  return plans;
}

std::string recompute_text(const Checkpointing& checkpointing) {
  return checkpointing.kept == Checkpointing::Kept::kEverything  ? "none"
         : checkpointing.kept == Checkpointing::Kept::kAttention ? "attention"
         : checkpointing.free_blocks > 0 ? std::to_string(checkpointing.free_blocks)
                                         : "all";
}

std::vector<SmallerTraining> smaller_trainings(int gpus, const TrainingWishes& wishes,
                                               const TrainingSubject& subject, int64_t bytes) {
  constexpr int64_t kUsualRank = 32;
  std::vector<SmallerTraining> smaller;
  const auto consider = [&](const std::string& change, int processes, const TrainingWishes& wished,
                            const TrainingSubject& training) {
    const int64_t least = least_memory(training_plans(processes, wished, training));
    if (least < bytes) {
      smaller.push_back({change, least});
    }
  };
  const auto wish = [&](const std::string& change, auto make) {
    TrainingWishes wished = wishes;
    make(wished);
    consider(change, gpus, wished, subject);
  };
  const auto state = [&](const std::string& change, auto make) {
    TrainingSubject training = subject;
    make(training.state);
    consider(change, gpus, wishes, training);
  };
  wish("`recompute` all", [](TrainingWishes& it) { it.recompute = "all"; });
  wish("`recompute` all with `offload_activations`", [](TrainingWishes& it) {
    it.recompute = "all";
    it.offload_activations = true;
  });
  wish("another `shard_group`", [](TrainingWishes& it) { it.shard_group = 0; });
  state("`offload_optimizer`", [](TrainedState& it) { it.offload_optimizer = true; });
  if (wishes.recompute != "none") {
    state("`offload_weights`", [](TrainedState& it) { it.offload_weights = true; });
    state("`offload_optimizer` with `offload_weights`", [](TrainedState& it) {
      it.offload_optimizer = true;
      it.offload_weights = true;
    });
  }
  state("`lora_rank` 32", [](TrainedState& it) { it.lora_rank = kUsualRank; });
  const MeshFields& sides = wishes.mesh;
  if (sides.data_parallel * sides.ssp * sides.ulysses * sides.ring == 0) {
    TrainingWishes wished = wishes;
    wished.shard_group = 0;
    consider("twice as many `gpus`", 2 * gpus, wished, subject);
  }
  std::stable_sort(smaller.begin(), smaller.end(),
                   [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  return smaller;
}

}  // namespace ospnext
