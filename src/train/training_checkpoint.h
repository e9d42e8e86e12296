// Writes and reads the checkpoints of a training (stored_checkpoint.h). index.json is written last;
// a folder without it is incomplete and counts as nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/torch/torch.h"
#include "train/stored_checkpoint.h"
#include "train/trained_parameters.h"

namespace ospnext {

// Float32 tensors of a training by kind ("parameter", "first", ...) and then by the name of a
// trained part that is not empty; each is like the part's tensor.
using TrainingTensors = std::map<std::string, std::map<std::string, at::Tensor>>;

class TrainingCheckpoints {
 public:
  // Checkpoints of these parameters in `folder`, of which the last `keep` stay, and the best one
  // (best_checkpoint()).
  TrainingCheckpoints(std::filesystem::path folder, const TrainedParameters& parameters,
                      int64_t keep);

  // Writes one; all processes call it. An interrupt does not end it. Throws RunError and
  // InputError, and then leaves those of before as they are.
  void save(const TrainingState& state, const TrainingTensors& tensors) const;

  // Reads the newest complete one into `tensors`; nothing if there is none. It may come from a
  // training on another mesh. Throws InputError for files that are broken or of another model.
  std::optional<TrainingState> load_newest(const TrainingTensors& tensors) const;

 private:
  // Removes what killed runs left incomplete, and makes the folder of a new one.
  void make_room(const std::filesystem::path& target) const;
  void remove_old() const;  // all but the last `keep` and the best one

  std::filesystem::path folder_;
  const TrainedParameters& parameters_;
  int64_t keep_;
};

// "step-00000123".
std::string name_of_step(int64_t step);

// The folder of the newest complete checkpoint in `folder`; nothing if there is none.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& folder);
// The folder of the complete checkpoint with the highest kCheckpointQuality, the newest of equal
// ones; nothing if none has any. Throws InputError for an index that is broken.
std::optional<std::filesystem::path> best_checkpoint(const std::filesystem::path& folder);

}  // namespace ospnext
