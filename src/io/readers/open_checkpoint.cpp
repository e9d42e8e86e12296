// Opens tensor files of every known kind, indexes of shards, and directories that hold them.
#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/safetensors_reader.h"
#include "io/readers/tensor_file.h"
#include "io/readers/torch_file_reader.h"
#include "io/readers/zip_reader.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexEnd = ".index.json";

// How often each file is the one that a directory means, most telling first.
constexpr const char* kUsualNames[] = {
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "ema_model_state_dict.pt",
};

// Without an exception where the path cannot be looked at.
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
  if (begins_with(bytes, "version https://git-lfs")) {
    throw InputError(file.path() +
                     ": this is a Git LFS pointer, expected the file it stands for: "
                     "fetch it with git lfs pull");
  }
  if (looks_like_safetensors(bytes) || fs::path(file.path()).extension() == ".safetensors") {
    return read_safetensors(file);
  }
  throw InputError(file.path() + ": expected a safetensors or a PyTorch zip file, found neither");
}

Checkpoint open_file(const fs::path& path) {
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::make_unique<MappedFile>(path));
  SafetensorsContent content = read_file(*files.front());
  return Checkpoint(path.string(), std::move(files), std::move(content.tensors),
                    std::move(content.metadata));
}

// Tensor name -> file name, as "weight_map" of the index gives it.
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
    const auto name = file.get<std::string>();
    if (name.empty() || name == "." || name == ".." ||
        name.find_first_of(std::string_view("/\\\0", 3)) != name.npos) {
      throw InputError(index.string() + ": tensor " + quoted(tensor) + " lies in " + quoted(name) +
                       ", expected the name of a file beside the index");
    }
    files[tensor] = name;
  }
  if (files.empty()) {
    throw InputError(index.string() + ": \"weight_map\" names no tensor");
  }
  return files;
}

Checkpoint open_index(const fs::path& index) {
  const auto weight_map = read_weight_map(index);
  std::set<std::string> names;
  for (const auto& entry : weight_map) {
    names.insert(entry.second);
  }
  std::vector<std::unique_ptr<MappedFile>> files;
  TensorMap tensors;
  std::map<std::string, std::string> metadata;
  for (const std::string& name : names) {
    files.push_back(std::make_unique<MappedFile>(index.parent_path() / name));
    SafetensorsContent shard = read_file(*files.back());
    metadata.merge(shard.metadata);
    for (auto& [tensor, record] : shard.tensors) {
      const auto listed = weight_map.find(tensor);
      if (listed != weight_map.end() && listed->second != name) {
        continue;  // the index says that another shard holds it
      }
      if (!tensors.emplace(tensor, std::move(record)).second) {
        throw InputError(index.string() + ": tensor " + quoted(tensor) + " lies in two shards");
      }
    }
  }
  for (const auto& [tensor, name] : weight_map) {
    if (!tensors.contains(tensor)) {
      throw InputError(index.string() + ": tensor " + quoted(tensor) + " is not in its file " +
                       quoted(name));
    }
  }
  return Checkpoint(index.string(), std::move(files), std::move(tensors), std::move(metadata));
}

}  // namespace

bool is_tensor_file(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".safetensors" || extension == ".pt" || extension == ".pth" ||
         extension == ".bin";
}

std::optional<fs::path> find_checkpoint(const fs::path& directory) {
  for (const char* name : kUsualNames) {
    if (is_file(directory / name)) {
      return directory / name;
    }
  }
  std::vector<fs::path> indexes;
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().string().ends_with(kIndexEnd)) {
      indexes.push_back(entry->path());
    } else if (is_tensor_file(entry->path())) {
      files.push_back(entry->path());
    }
  }
  const auto& found = indexes.empty() ? files : indexes;
  if (found.size() > 1) {
    const auto [first, last] = std::minmax_element(found.begin(), found.end());
    throw InputError(directory.string() + ": expected one checkpoint, found " +
                     std::to_string(found.size()) + ", such as " + first->filename().string() +
                     " and " + last->filename().string() + ": name the file itself");
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
  return path.string().ends_with(kIndexEnd) ? open_index(path) : open_file(path);
}

}  // namespace ospnext
