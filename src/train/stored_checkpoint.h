// A checkpoint of a training, as it lies on disk: a folder "step-00000123" with index.json and a
// safetensors file of each process that kept something of its own, "rank-00000.safetensors". In
// these a tensor KIND.NAME is the trained tensor NAME, or a part of its elements, flat; the file's
// metadata "first" gives the number of the first element of each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

inline constexpr const char* kCheckpointIndex = "index.json";
inline constexpr const char* kCheckpointFirst = "first";
inline constexpr const char* kCheckpointQuality = "quality";  // of TrainingState::numbers

// What a training goes on from, beside tensors.
struct TrainingState {
  int64_t step = 0;                       // finished steps
  std::map<std::string, double> numbers;  // for example, of the clipping
  nlohmann::json objective;               // Objective::state()
};

// Nothing of the files is trusted.
class StoredCheckpoint {
 public:
  // Opens a complete checkpoint. Throws InputError that names the folder or the file.
  explicit StoredCheckpoint(const std::filesystem::path& folder);

  std::string folder() const { return folder_.string(); }
  const TrainingState& state() const { return state_; }
  // The trained tensors, whole.
  const TensorShapes& shapes() const { return shapes_; }
  // What they belong to (TrainedParameters::model()); null if the checkpoint does not say it.
  const nlohmann::json& model() const { return model_; }

  // Fills `tensor` (float32, any shape) with the elements first, first + 1, ... of `kind` of a
  // trained tensor. Throws InputError unless the files hold each of them once.
  void read(const std::string& kind, const std::string& name, int64_t first,
            const at::Tensor& tensor) const;
  // A whole tensor, float32 on the CPU; throws as above.
  at::Tensor read(const std::string& kind, const std::string& name) const;

 private:
  struct Part {
    int64_t first;
    const TensorRecord* record;
  };
  std::vector<Part> parts_of(const std::string& kind, const std::string& name) const;
  [[noreturn]] void refuse(const std::string& kind, const std::string& name, int64_t found,
                           int64_t expected) const;

  std::filesystem::path folder_;
  TrainingState state_;
  TensorShapes shapes_;
  nlohmann::json model_;
  std::vector<Checkpoint> files_;
  std::vector<std::map<std::string, int64_t>> firsts_;  // of each file, by name
};

}  // namespace ospnext
