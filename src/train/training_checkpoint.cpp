#include "train/training_checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "core/error.h"
#include "io/output_file.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kIndex = "index.json";
constexpr const char* kFirst = "first";  // metadata: the first element of each part, as JSON
constexpr int64_t kFormat = 1;

std::string name_of_step(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof(name), "step-%08lld", static_cast<long long>(step));
  return name;
}

std::string name_of_rank(int rank) {
  char name[32];
  std::snprintf(name, sizeof(name), "rank-%05d.safetensors", rank);
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
  return fs::exists(folder / kIndex);
}

// The files of a checkpoint, and where each part of a tensor lies in them.
class StoredParts {
 public:
  StoredParts(const fs::path& folder, const json& index) : where_(folder.string()) {
    for (const json& file : index.at("files")) {
      const auto name = file.get<std::string>();
      if (!name.starts_with("rank-") || name.find('/') != std::string::npos) {
        throw InputError((folder / kIndex).string() + ": files: found " + quoted(name) +
                         ", expected names like " + name_of_rank(0));
      }
      files_.push_back(open_checkpoint(folder / name));
      const auto found = files_.back().metadata().find(kFirst);
      if (found == files_.back().metadata().end()) {
        throw InputError(files_.back().path() + ": metadata \"first\" is missing");
      }
      firsts_.push_back(parse_bounded_json(found->second, files_.back().path() + ": first"));
    }
  }

  // Fills `tensor` with the elements first, first + 1, ... of `kind` of the trained tensor `name`.
  void read(const std::string& kind, const std::string& name, int64_t first,
            const at::Tensor& tensor) const {
    const at::Tensor own = tensor.detach().view({-1});          // [n]
    const WeightShard part{{first + own.numel()}, first, own};  // of a row of elements
    int64_t filled = 0;
    for (size_t i = 0; i < files_.size(); ++i) {
      const auto found = files_[i].tensors().find(kind + "." + name);
      if (found == files_[i].tensors().end() || !firsts_[i].contains(name)) {
        continue;
      }
      const at::Tensor stored = to_tensor(found->second);
      const auto begin_there = firsts_[i].at(name).get<int64_t>();
      if (stored.dim() == 1 && begin_there >= 0 && begin_there < first + own.numel()) {
        filled += part.write(begin_there, stored).numel();
      }
    }
    if (filled != own.numel()) {
      throw InputError(where_ + ": " + kind + " of " + quoted(name) + ": found " +
                       std::to_string(filled) + " elements, expected " +
                       std::to_string(own.numel()) + "; the checkpoint is of another training");
    }
  }

 private:
  std::string where_;
  std::vector<Checkpoint> files_;
  std::vector<json> firsts_;
};

// The sizes of a tensor in the checkpoint must be those of the training: a part of another tensor
// could have as many elements.
void check_shapes(const json& shapes, const TrainedParameters& parameters,
                  const std::string& where) {
  for (const TrainedPart& part : parameters.parts()) {
    if (!shapes.contains(part.name) || shapes.at(part.name) != json(part.shape)) {
      throw InputError(where + ": " + quoted(part.name) +
                       " is missing or has another shape; the checkpoint is of another model");
    }
  }
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
  const bool leads = ranks.work.leads();
  const fs::path target = folder_ / name_of_step(state.step);
  if (leads) {
    fs::remove_all(target);
    fs::create_directories(target);
  }
  ranks.all().barrier("checkpoint");
  std::map<std::string, at::Tensor> own;
  json first = json::object(), shapes = json::object();
  for (const TrainedPart& part : parameters_.parts()) {
    shapes[part.name] = part.shape;
    if (part.tensor.numel() == 0 || (part.is_shard ? ranks.replicas.rank() != 0 : !leads)) {
      continue;
    }
    first[part.name] = part.first;
    for (const auto& [kind, by_name] : tensors) {
      own[kind + "." + part.name] = by_name.at(part.name).detach().flatten();  // [n]
    }
  }
  if (!own.empty()) {
    save_safetensors(target / name_of_rank(ranks.all().rank()), own, {{kFirst, first.dump()}});
  }
  ranks.work.world->meet();
  if (leads) {
    json files = json::array();
    for (int rank = 0; rank < ranks.all().size(); ++rank) {
      if (fs::exists(target / name_of_rank(rank))) {
        files.push_back(name_of_rank(rank));
      }
    }
    const json index = {{"format", kFormat},
                        {"step", state.step},
                        {"files", files},
                        {"numbers", state.numbers},
                        {"shapes", shapes}};
    write_text_file(target / kIndex, index.dump());
    std::vector<fs::path> all = folders_in(folder_);
    const auto complete = std::ranges::count_if(all, is_complete);
    for (int64_t i = 0, seen = 0; i < std::ssize(all); ++i) {
      seen += is_complete(all[i]) ? 1 : 0;
      if (!is_complete(all[i]) || seen <= complete - keep_) {
        fs::remove_all(all[i]);
      }
    }
  }
  ranks.all().barrier("checkpoint");
}

std::optional<TrainingState> TrainingCheckpoints::load_newest(
    const TrainingTensors& tensors) const {
  const auto newest = newest_checkpoint(folder_);
  if (!newest) {
    return std::nullopt;
  }
  const std::string where = (*newest / kIndex).string();
  const json index = read_json_file(where);
  TrainingState state;
  try {
    if (index.at("format") != kFormat) {
      throw InputError(where + ": format: found " + index.at("format").dump() + ", expected " +
                       std::to_string(kFormat));
    }
    state = {index.at("step").get<int64_t>(),
             index.at("numbers").get<std::map<std::string, double>>()};
    check_shapes(index.at("shapes"), parameters_, where);
    const torch::NoGradGuard no_grad;
    const StoredParts stored(*newest, index);
    for (const auto& [kind, by_name] : tensors) {
      for (const TrainedPart& part : parameters_.parts()) {
        if (part.tensor.numel() > 0) {
          stored.read(kind, part.name, part.first, by_name.at(part.name));
        }
      }
    }
  } catch (const json::exception& error) {
    throw InputError(where + ": " + error.what());
  }
  return state;
}

}  // namespace ospnext
