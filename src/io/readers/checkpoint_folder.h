// Which files of a folder are checkpoints, told by their names alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ospnext {

// The name of a file that is one of several: "model-00001-of-00003.safetensors".
struct ShardName {
  std::string begin;  // "model-"
  int64_t number;     // 1; expected from 1 to `count`
  int64_t count;      // 3
  std::string end;    // ".safetensors", ".fp16.safetensors"

  std::string name_of(int64_t shard) const;  // of another of them
  auto operator<=>(const ShardName&) const = default;
};
std::optional<ShardName> parse_shard_name(const std::string& name);

// "NAME.index.json", and as diffusers names the index of a variant: "NAME.index.fp16.json".
bool is_index_name(const std::string& name);

// The checkpoints that lie directly in a folder, of those files whose paths `fits` takes, sorted:
// indexes of shards; without any, tensor files, where the shards of one set count once, by the
// first that is there; without any, files of GGUF or of torch.distributed.checkpoint, which
// open_checkpoint() refuses by name. Names that begin with a dot are passed over: macOS leaves such
// beside files.
std::vector<std::filesystem::path> checkpoints_in(
    const std::filesystem::path& folder,
    const std::function<bool(const std::filesystem::path&)>& fits);

// Throws InputError when `folder` is the root of a hub's cache (models--OWNER--NAME): it holds the
// files under names of their own, and the folders that were meant in snapshots/.
void refuse_hub_cache(const std::filesystem::path& folder);

}  // namespace ospnext
