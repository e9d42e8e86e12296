// Opens tensor files of every known kind, indexes of shards, and directories that hold them.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/safetensors_reader.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

Checkpoint open_file(const fs::path& path) {
  auto file = std::make_unique<MappedFile>(path);
  SafetensorsContent content = read_safetensors(*file);
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::move(file));
  return Checkpoint(path.string(), std::move(files), std::move(content.tensors),
                    std::move(content.metadata));
}

}  // namespace

Checkpoint open_checkpoint(const fs::path& path) {
  return open_file(path);
}

}  // namespace ospnext
