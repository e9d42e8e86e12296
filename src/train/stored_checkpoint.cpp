#include "train/stored_checkpoint.h"

#include <algorithm>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/training_index.h"
#include "io/weights.h"
#include "parallel/sharded_weights.h"

namespace ospnext {
namespace fs = std::filesystem;

StoredCheckpoint::StoredCheckpoint(const fs::path& folder) : folder_(folder) {
  const std::string where = (folder / kCheckpointIndex).string();
  if (!fs::exists(where)) {
    const std::string missing = fs::exists(folder) ? kCheckpointIndex : "such directory";
    throw InputError(folder.string() + ": found no " + missing +
                     ", expected a complete checkpoint of a training, such as "
                     "run/checkpoints/step-00000500");
  }
  const TrainingIndex index = training_index_from_json(read_json_file(where), where);
  state_ = {index.step, index.numbers, index.objective};
  shapes_ = TensorShapes(index.shapes.begin(), index.shapes.end());
  model_ = index.model;
  for (const std::string& name : index.files) {
    files_.push_back(open_checkpoint(folder / name));
    const auto found = files_.back().metadata().find(kCheckpointFirst);
    if (found == files_.back().metadata().end()) {
      throw InputError(files_.back().path() + ": metadata \"" + kCheckpointFirst + "\" is missing");
    }
    const std::string origin = files_.back().path() + ": " + kCheckpointFirst;
    firsts_.push_back(first_elements_from_json(parse_bounded_json(found->second, origin), origin));
  }
}

// In the order of the elements.
std::vector<StoredCheckpoint::Part> StoredCheckpoint::parts_of(const std::string& kind,
                                                               const std::string& name) const {
  std::vector<Part> parts;
  for (size_t i = 0; i < files_.size(); ++i) {
    const auto found = files_[i].tensors().find(kind + "." + name);
    if (found == files_[i].tensors().end() || !firsts_[i].contains(name)) {
      continue;
    }
    if (found->second.dtype != DType::kF32 || found->second.shape.size() != 1 ||
        !found->second.is_contiguous()) {
      throw InputError(files_[i].path() + ": " + quoted(found->first) + ": found " +
                       dtype_text(found->second) + " " + shape_text(found->second.shape) +
                       ", expected a row of F32");
    }
    parts.push_back({firsts_[i].at(name), &found->second});
  }
  std::ranges::sort(parts, {}, &Part::first);
  return parts;
}

void StoredCheckpoint::refuse(const std::string& kind, const std::string& name, int64_t found,
                              int64_t expected) const {
  throw InputError(folder() + ": " + kind + " of " + quoted(name) + ": found " +
                   std::to_string(found) + " elements, expected " + std::to_string(expected) +
                   ", each once; the checkpoint is damaged or of another training");
}

void StoredCheckpoint::read(const std::string& kind, const std::string& name, int64_t first,
                            const at::Tensor& tensor) const {
  const torch::NoGradGuard no_grad;
  const at::Tensor own = tensor.detach().view({-1});          // [n]
  const WeightShard part{{first + own.numel()}, first, own};  // of a row of elements
  int64_t filled = 0;  // the elements first, ..., first + filled - 1 are there
  for (const Part& stored : parts_of(kind, name)) {
    if (stored.first > first + filled || filled == own.numel()) {
      break;  // there is a gap, or all is there
    }
    const int64_t count = part.write(stored.first, to_tensor(*stored.record)).numel();
    if (count > 0 && std::max(stored.first, first) != first + filled) {
      break;  // parts overlap
    }
    filled += count;
  }
  if (filled != own.numel()) {
    refuse(kind, name, filled, own.numel());
  }
}

at::Tensor StoredCheckpoint::read(const std::string& kind, const std::string& name) const {
  const auto found = shapes_.find(name);
  TORCH_CHECK(found != shapes_.end(), "checkpoint: there is no tensor ", name);
  const int64_t expected = c10::multiply_integers(found->second);
  int64_t stored = 0;  // compared before anything of this size is allocated
  for (const Part& part : parts_of(kind, name)) {
    stored += part.record->element_count();
  }
  if (stored != expected) {
    refuse(kind, name, stored, expected);
  }
  at::Tensor tensor = at::empty(found->second, at::kFloat);
  read(kind, name, 0, tensor);
  return tensor;
}

}  // namespace ospnext
