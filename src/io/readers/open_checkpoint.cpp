// Opens tensor files of every known kind, indexes of shards, and directories that contain them.
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/extension.h"
#include "io/readers/bounded_json.h"
#include "io/readers/checkpoint_folder.h"
#include "io/readers/safetensors_reader.h"
#include "io/readers/tensor_file.h"
#include "io/readers/torch_file_reader.h"
#include "io/readers/zip_reader.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// Usual names of a directory's checkpoint; the first one that exists is used.
constexpr const char* kUsualNames[] = {
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "ema_model_state_dict.pt",
};

// Never throws: false for a path that cannot be examined.
bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool begins_with(std::span<const std::byte> bytes, std::string_view text) {
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())
      .starts_with(text);
}

SafetensorsContent read_file(const MappedFile& file) {
  const auto bytes = file.bytes();
  if (looks_like_zip(bytes)) {
    return {read_torch_file(file), {}};
  }
  if (looks_like_legacy_torch_file(bytes)) {
    throw InputError(file.path() +
                     ": this is a file of PyTorch before 1.6, expected its zip format: load it in "
                     "Python with torch.load and write it again with torch.save");
  }
  if (begins_with(bytes, "GGUF")) {
    throw InputError(file.path() +
                     ": this is a GGUF file, which is not read here, expected a safetensors or a "
                     "PyTorch zip file");
  }
  if (looks_like_safetensors(bytes) || extension_of(file.path()) == ".safetensors") {
    return read_safetensors(file);
  }
  throw InputError(file.path() + ": expected a safetensors or a PyTorch zip file, found neither");
}

// Throws for a file of torch.distributed.checkpoint, which writes a folder with .metadata and one
// .distcp file per rank.
[[noreturn]] void refuse_distributed(const fs::path& file) {
  const fs::path folder = file.parent_path();
  throw InputError(folder.string() + ": this is a folder of torch.distributed.checkpoint (" +
                   quoted(file.filename().string()) +
                   "), expected a file of its tensors: make it with python -m "
                   "torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE");
}

Checkpoint open_file(const fs::path& path) {
  if (path.extension() == ".distcp") {
    refuse_distributed(path);
  }
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::make_unique<MappedFile>(path));
  SafetensorsContent content = read_file(*files.front());
  return Checkpoint(path.string(), std::move(files), std::move(content.tensors),
                    std::move(content.metadata));
}

// Checks `found`, the shard of a tensor in the index, and removes "./" from its start. The shard
// must lie in the folder of the index.
std::string shard_beside(const fs::path& index, const std::string& tensor,
                         const std::string& found) {
  std::string name = found;
  while (name.starts_with("./")) {
    name.erase(0, 2);
  }
  if (name.empty() || name == "." || name == ".." ||
      name.find_first_of(std::string_view("/\\\0", 3)) != name.npos) {
    throw InputError(index.string() + ": tensor " + quoted(tensor) + " lies in " + quoted(found) +
                     ", expected the name of a file beside the index");
  }
  return name;
}

// Tensor name -> file name, from "weight_map" of the index.
std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const nlohmann::json json = read_json_file(index);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    throw InputError(index.string() + ": expected an object \"weight_map\" of tensors and files");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string()) {
      throw InputError(index.string() + ": the file of tensor " + quoted(tensor) + " is no text");
    }
    files[tensor] = shard_beside(index, tensor, file.get<std::string>());
  }
  if (files.empty()) {
    throw InputError(index.string() + ": \"weight_map\" names no tensor");
  }
  return files;
}

// The tensors of several files together.
class Shards {
 public:
  explicit Shards(fs::path origin) : origin_(std::move(origin)) {}

  // Adds the tensors of the file `name` in the origin's folder for which `wanted(tensor)` is true.
  void add(const std::string& name, const std::function<bool(const std::string&)>& wanted) {
    const fs::path file = origin_.parent_path() / name;
    std::error_code ignored;
    if (!fs::exists(file, ignored)) {
      throw InputError(origin_.string() + ": its shard " + quoted(name) +
                       " is not there, expected it in " + file.parent_path().string());
    }
    files_.push_back(std::make_unique<MappedFile>(file));
    SafetensorsContent shard = read_file(*files_.back());
    metadata_.merge(shard.metadata);
    for (auto& [tensor, record] : shard.tensors) {
      if (wanted(tensor) && !tensors_.emplace(tensor, std::move(record)).second) {
        throw InputError(origin_.string() + ": tensor " + quoted(tensor) + " lies in two shards");
      }
    }
  }

  const TensorMap& tensors() const { return tensors_; }
  Checkpoint joined(std::vector<std::string> unlisted) && {
    return Checkpoint(origin_.string(), std::move(files_), std::move(tensors_),
                      std::move(metadata_), std::move(unlisted));
  }

 private:
  fs::path origin_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  TensorMap tensors_;
  std::map<std::string, std::string> metadata_;
};

Checkpoint open_index(const fs::path& index) {
  const auto weight_map = read_weight_map(index);
  std::set<std::string> names;
  for (const auto& entry : weight_map) {
    names.insert(entry.second);
  }
  Shards shards(index);
  for (const std::string& name : names) {
    // skip tensors that the index assigns to another shard
    shards.add(name, [&](const std::string& tensor) {
      const auto listed = weight_map.find(tensor);
      return listed == weight_map.end() || listed->second == name;
    });
  }
  for (const auto& [tensor, name] : weight_map) {
    if (!shards.tensors().contains(tensor)) {
      throw InputError(index.string() + ": tensor " + quoted(tensor) + " is not in its file " +
                       quoted(name));
    }
  }
  std::vector<std::string> unlisted;
  for (const auto& entry : shards.tensors()) {
    if (!weight_map.contains(entry.first)) {
      unlisted.push_back(entry.first);
    }
  }
  return std::move(shards).joined(std::move(unlisted));
}

// Opens all shards of the set that `file` belongs to.
Checkpoint open_shards(const fs::path& file, const ShardName& shard) {
  if (shard.number < 1 || shard.number > shard.count) {
    throw InputError(file.string() + ": found the name of shard " + std::to_string(shard.number) +
                     " of " + std::to_string(shard.count) + ", expected one from 1 to " +
                     std::to_string(shard.count));
  }
  Shards shards(file);
  for (int64_t number = 1; number <= shard.count; ++number) {
    shards.add(shard.name_of(number), [](const std::string&) { return true; });
  }
  return std::move(shards).joined({});
}

}  // namespace

bool is_tensor_file(const fs::path& path) {
  const std::string extension = extension_of(path);
  return extension == ".safetensors" || extension == ".pt" || extension == ".pth" ||
         extension == ".bin";
}

std::optional<fs::path> find_checkpoint(const fs::path& directory) {
  for (const char* name : kUsualNames) {
    if (is_file(directory / name)) {
      return directory / name;
    }
  }
  const auto found = checkpoints_in(directory, [](const fs::path&) { return true; });
  if (found.size() > 1) {
    throw InputError(directory.string() + ": expected one checkpoint, found " +
                     std::to_string(found.size()) + ", such as " +
                     found.front().filename().string() + " and " +
                     found.back().filename().string() + ": name the file itself");
  }
  if (found.empty()) {
    refuse_hub_cache(directory);
  }
  return found.empty() ? std::nullopt : std::optional(found.front());
}

Checkpoint open_checkpoint(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    const auto found = find_checkpoint(path);
    if (!found) {
      throw InputError(
          path.string() +
          ": expected a directory with a checkpoint (.safetensors, .pt, .pth or .bin), "
          "found none in it");
    }
    return open_checkpoint(*found);
  }
  const std::string name = path.filename().string();
  if (is_index_name(name)) {
    return open_index(path);
  }
  const auto shard = parse_shard_name(name);
  return shard && is_tensor_file(path) ? open_shards(path, *shard) : open_file(path);
}

}  // namespace ospnext
