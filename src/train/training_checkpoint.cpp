#include "train/training_checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "core/error.h"
#include "io/output_file.h"
#include "io/readers/bounded_json.h"
#include "io/readers/training_index.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// The folders of checkpoints, complete or not, oldest first.
std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.size() >= name_of_step(0).size() &&
        name.find_first_not_of("0123456789", 5) == std::string::npos) {
      found.push_back(entry.path());
    }
  }
  std::ranges::sort(found, {}, [](const fs::path& path) {
    const std::string name = path.filename().string();
    return std::pair(name.size(), name);
  });
  return found;
}

bool is_complete(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kCheckpointIndex, ignored);
}

// The index goes first: a folder that is only half removed must not count as complete.
void remove_checkpoint(const fs::path& folder) {
  std::error_code error;
  fs::remove(folder / kCheckpointIndex, error);
  fs::remove_all(folder, error);
  if (error) {
    throw RunError(folder.string() + ": cannot be removed: " + error.message());
  }
}

std::map<std::string, std::vector<int64_t>> shapes_of(const TrainedParameters& parameters) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TrainedPart& part : parameters.parts()) {
    shapes[part.name] = part.shape;
  }
  return shapes;
}

// The tensors in the checkpoint must be those of the training, all of them and with their sizes: a
// part of another tensor could have as many elements.
void check_same(const StoredCheckpoint& stored, const TrainedParameters& parameters) {
  const std::string where = stored.folder() + ": ";
  const auto expected = shapes_of(parameters);
  for (const auto& [name, shape] : expected) {
    const auto found = stored.shapes().find(name);
    if (found == stored.shapes().end() || found->second != shape) {
      throw InputError(where + quoted(name) +
                       " is missing or has another shape; the checkpoint is of another model");
    }
  }
  for (const auto& [name, shape] : stored.shapes()) {
    if (!expected.contains(name)) {
      throw InputError(where + "found " + quoted(name) +
                       ", which is not trained here; the checkpoint is of another model");
    }
  }
  if (!stored.model().is_null() && stored.model() != parameters.model()) {
    throw InputError(where +
                     "the sizes of its models, or the ranks, alphas and noise levels of its LoRA, "
                     "are not those of this training");
  }
}

// The names of the files of all processes that keep something. All processes call it.
std::vector<std::string> files_of_ranks(const ProcessGroup& all, bool keeps, at::Device device) {
  at::Tensor kept = at::zeros({all.size()}, at::kLong);
  kept[all.rank()] = keeps ? 1 : 0;
  kept = all.all_sum(kept.to(device), "checkpoint").cpu();
  std::vector<std::string> files;
  for (int rank = 0; rank < all.size(); ++rank) {
    if (kept[rank].item<int64_t>() > 0) {
      files.push_back(file_of_rank(rank));
    }
  }
  return files;
}

}  // namespace

std::string name_of_step(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof(name), "step-%08lld", static_cast<long long>(step));
  return name;
}

std::optional<fs::path> newest_checkpoint(const fs::path& folder) {
  std::vector<fs::path> all = folders_in(folder);
  std::erase_if(all, [](const fs::path& one) { return !is_complete(one); });
  return all.empty() ? std::nullopt : std::make_optional(all.back());
}

std::optional<fs::path> best_checkpoint(const fs::path& folder) {
  std::optional<fs::path> best;
  double highest = 0;
  for (const fs::path& one : folders_in(folder)) {
    if (!is_complete(one)) {
      continue;
    }
    const fs::path file = one / kCheckpointIndex;
    const auto numbers = training_index_from_json(read_json_file(file), file.string()).numbers;
    const auto quality = numbers.find(kCheckpointQuality);
    if (quality != numbers.end() && (!best || quality->second >= highest)) {
      best = one;
      highest = quality->second;
    }
  }
  return best;
}

TrainingCheckpoints::TrainingCheckpoints(fs::path folder, const TrainedParameters& parameters,
                                         int64_t keep)
    : folder_(std::move(folder)), parameters_(parameters), keep_(keep) {}

void TrainingCheckpoints::save(const TrainingState& state, const TrainingTensors& tensors) const {
  const TrainingRanks& ranks = parameters_.ranks();
  World& world = *ranks.work.world;
  const bool leads = ranks.work.leads();
  const fs::path target = folder_ / name_of_step(state.step);
  if (leads) {
    make_room(target);
  }
  world.meet(/*cancellable=*/false);  // others only write where the folder is
  std::map<std::string, at::Tensor> own;
  nlohmann::json first = nlohmann::json::object();
  for (const TrainedPart& part : parameters_.parts()) {
    if (part.tensor.numel() == 0 || (part.is_shard ? ranks.replicas.rank() != 0 : !leads)) {
      continue;
    }
    first[part.name] = part.first;
    for (const auto& [kind, by_name] : tensors) {
      own[kind + "." + part.name] = by_name.at(part.name).detach().flatten();  // [n]
    }
  }
  const std::vector<std::string> files =
      files_of_ranks(ranks.all(), !own.empty(), parameters_.device());
  if (!own.empty()) {
    save_safetensors(target / file_of_rank(ranks.all().rank()), own,
                     {{kCheckpointFirst, first.dump()}});
  }
  world.meet(/*cancellable=*/false);  // the index stands for the files of all
  if (leads) {
    const TrainingIndex index{state.step,      files,
                              state.numbers,   shapes_of(parameters_),
                              state.objective, parameters_.model()};
    write_text_file(target / kCheckpointIndex, index.json().dump());
    remove_old();
  }
  world.meet(/*cancellable=*/false);  // removing may take long
}

void TrainingCheckpoints::make_room(const fs::path& target) const {
  for (const fs::path& one : folders_in(folder_)) {
    if (!is_complete(one) || one == target) {
      remove_checkpoint(one);
    }
  }
  std::error_code error;
  fs::create_directories(target, error);
  if (error) {
    throw RunError(target.string() + ": cannot be made: " + error.message());
  }
}

void TrainingCheckpoints::remove_old() const {
  const std::vector<fs::path> all = folders_in(folder_);
  const auto best = best_checkpoint(folder_);
  for (int64_t i = 0; i + keep_ < std::ssize(all); ++i) {
    if (all[i] != best) {
      remove_checkpoint(all[i]);
    }
  }
}

std::optional<TrainingState> TrainingCheckpoints::load_newest(
    const TrainingTensors& tensors) const {
  const auto newest = newest_checkpoint(folder_);
  if (!newest) {
    return std::nullopt;
  }
  const StoredCheckpoint stored(*newest);
  check_same(stored, parameters_);
  for (const auto& [kind, by_name] : tensors) {
    for (const TrainedPart& part : parameters_.parts()) {
      if (part.tensor.numel() > 0) {
        stored.read(kind, part.name, part.first, by_name.at(part.name));
      }
    }
  }
  return stored.state();
}

}  // namespace ospnext
