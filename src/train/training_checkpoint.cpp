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
using nlohmann::json;

constexpr const char* kIndex = "index.json";
constexpr const char* kFirst = "first";  // metadata: the first element of each part, as JSON

std::string name_of_step(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof(name), "step-%08lld", static_cast<long long>(step));
  return name;
}

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
  return fs::exists(folder / kIndex, ignored);
}

// The index goes first: a folder that is only half removed must not count as complete.
void remove_checkpoint(const fs::path& folder) {
  std::error_code error;
  fs::remove(folder / kIndex, error);
  fs::remove_all(folder, error);
  if (error) {
    throw RunError(folder.string() + ": cannot be removed: " + error.message());
  }
}

// The files of a checkpoint, and where each part of a tensor lies in them.
class StoredParts {
 public:
  StoredParts(const fs::path& folder, const TrainingIndex& index) : where_(folder.string()) {
    for (const std::string& name : index.files) {
      files_.push_back(open_checkpoint(folder / name));
      const auto found = files_.back().metadata().find(kFirst);
      if (found == files_.back().metadata().end()) {
        throw InputError(files_.back().path() + ": metadata \"first\" is missing");
      }
      const std::string where = files_.back().path() + ": first";
      firsts_.push_back(first_elements_from_json(parse_bounded_json(found->second, where), where));
    }
  }

  // Fills `tensor` with the elements first, first + 1, ... of `kind` of the trained tensor `name`.
  void read(const std::string& kind, const std::string& name, int64_t first,
            const at::Tensor& tensor) const {
    const at::Tensor own = tensor.detach().view({-1});  // [n]
    const int64_t end = first + own.numel();
    int64_t next = first;  // the elements before it are filled
    bool fits = true;
    for (const Piece& piece : pieces_of(kind + "." + name, name)) {
      const int64_t from = std::max(piece.first, first);
      const int64_t to = std::min(piece.first + piece.values.numel(), end);
      if (from < to) {
        fits = fits && from == next;  // no hole, and nothing twice
        own.narrow(0, from - first, to - from)
            .copy_(piece.values.narrow(0, from - piece.first, to - from));
        next = to;
      }
    }
    if (!fits || next != end) {
      throw InputError(where_ + ": " + kind + " of " + quoted(name) +
                       ": its files do not have each element once; the checkpoint is damaged or "
                       "of another training");
    }
  }

 private:
  struct Piece {
    int64_t first;
    at::Tensor values;  // [n] float32
  };

  // The parts of a tensor in all files, in their order.
  std::vector<Piece> pieces_of(const std::string& tensor, const std::string& name) const {
    std::vector<Piece> pieces;
    for (size_t i = 0; i < files_.size(); ++i) {
      const auto found = files_[i].tensors().find(tensor);
      if (found == files_[i].tensors().end() || !firsts_[i].contains(name)) {
        continue;
      }
      if (found->second.dtype != DType::kF32 || found->second.shape.size() != 1) {
        throw InputError(files_[i].path() + ": " + quoted(tensor) + ": found " +
                         dtype_text(found->second) + " " + shape_text(found->second.shape) +
                         ", expected one row of F32");
      }
      pieces.push_back({firsts_[i].at(name), to_tensor(found->second)});
    }
    std::ranges::sort(pieces, {}, &Piece::first);
    return pieces;
  }

  std::string where_;
  std::vector<Checkpoint> files_;
  std::vector<std::map<std::string, int64_t>> firsts_;
};

std::map<std::string, std::vector<int64_t>> shapes_of(const TrainedParameters& parameters) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TrainedPart& part : parameters.parts()) {
    shapes[part.name] = part.shape;
  }
  return shapes;
}

// The tensors in the checkpoint must be those of the training, all of them and with their sizes: a
// part of another tensor could have as many elements.
void check_shapes(const std::map<std::string, std::vector<int64_t>>& found,
                  const std::map<std::string, std::vector<int64_t>>& expected,
                  const std::string& where) {
  for (const auto& [name, shape] : expected) {
    if (!found.contains(name) || found.at(name) != shape) {
      throw InputError(where + ": " + quoted(name) +
                       " is missing or has another shape; the checkpoint is of another model");
    }
  }
  for (const auto& [name, shape] : found) {
    if (!expected.contains(name)) {
      throw InputError(where + ": found " + quoted(name) +
                       ", which is not trained here; the checkpoint is of another model");
    }
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

std::optional<fs::path> newest_checkpoint(const fs::path& folder) {
  std::vector<fs::path> all = folders_in(folder);
  std::erase_if(all, [](const fs::path& one) { return !is_complete(one); });
  return all.empty() ? std::nullopt : std::make_optional(all.back());
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
  json first = json::object();
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
      files_of_ranks(ranks.all(), !own.empty(), parameters_.parts().front().tensor.device());
  if (!own.empty()) {
    save_safetensors(target / file_of_rank(ranks.all().rank()), own, {{kFirst, first.dump()}});
  }
  world.meet(/*cancellable=*/false);  // the index stands for the files of all
  if (leads) {
    const TrainingIndex index{state.step, files, state.numbers, shapes_of(parameters_)};
    write_text_file(target / kIndex, index.json().dump());
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
  for (int64_t i = 0; i + keep_ < std::ssize(all); ++i) {
    remove_checkpoint(all[i]);
  }
}

std::optional<TrainingState> TrainingCheckpoints::load_newest(
    const TrainingTensors& tensors) const {
  const auto newest = newest_checkpoint(folder_);
  if (!newest) {
    return std::nullopt;
  }
  const std::string where = (*newest / kIndex).string();
  const TrainingIndex index = training_index_from_json(read_json_file(where), where);
  check_shapes(index.shapes, shapes_of(parameters_), where);
  const torch::NoGradGuard no_grad;
  const StoredParts stored(*newest, index);
  for (const auto& [kind, by_name] : tensors) {
    for (const TrainedPart& part : parameters_.parts()) {
      if (part.tensor.numel() > 0) {
        stored.read(kind, part.name, part.first, by_name.at(part.name));
      }
    }
  }
  return TrainingState{index.step, index.numbers};
}

}  // namespace ospnext
