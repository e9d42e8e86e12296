// Writing of safetensors files.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/output_file.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using TensorList = std::map<std::string, at::Tensor>;

void write_bytes(std::ofstream& out, const void* data, size_t size, const fs::path& file) {
  errno = 0;
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  if (!out.flush()) {
    throw RunError(file.string() +
                   ": cannot write: " + (errno == 0 ? "unknown reason" : std::strerror(errno)));
  }
}

// The header with its length in front, padded with spaces to a multiple of 8 bytes.
std::string header_text(const TensorList& tensors,
                        const std::map<std::string, std::string>& metadata, const fs::path& file) {
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  header["__metadata__"]["format"] = "pt";
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const DType dtype =
        file_dtype(tensor.scalar_type(), file.string() + ": tensor \"" + name + "\"");
    const int64_t end = offset + tensor.numel() * static_cast<int64_t>(item_size(dtype));
    header[name] = {{"dtype", dtype_name(dtype)},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length;
  for (uint64_t rest = text.size(), i = 0; i < 8; ++i, rest >>= 8) {
    length += static_cast<char>(rest & 0xff);
  }
  return length + text;
}

}  // namespace

void save_safetensors(const fs::path& file, const TensorList& tensors,
                      const std::map<std::string, std::string>& metadata) {
  const std::string header = header_text(tensors, metadata, file);
  PendingFile pending(file);
  std::ofstream out(pending.path(), std::ios::binary);
  write_bytes(out, header.data(), header.size(), file);
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor data = tensor.detach().cpu().contiguous();
    write_bytes(out, data.data_ptr(), data.nbytes(), file);
  }
  out.close();
  pending.commit();
}

void save_sharded_safetensors(const fs::path& directory, const std::string& stem,
                              const TensorList& tensors, int64_t max_shard_bytes) {
  std::vector<TensorList> shards(1);
  int64_t shard_bytes = 0;
  int64_t total_bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    if (shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back()[name] = tensor;
    shard_bytes += bytes;
    total_bytes += bytes;
  }
  const std::string single = stem + ".safetensors";
  const std::string index_name = single + ".index.json";
  std::error_code ignored;
  if (shards.size() == 1) {
    save_safetensors(directory / single, tensors);
    fs::remove(directory / index_name, ignored);  // of an earlier, larger checkpoint
    return;
  }
  nlohmann::json index;
  index["metadata"]["total_size"] = total_bytes;
  for (size_t i = 0; i < shards.size(); ++i) {
    char number[32];
    std::snprintf(number, sizeof(number), "-%05zu-of-%05zu", i + 1, shards.size());
    const std::string name = stem + number + ".safetensors";
    save_safetensors(directory / name, shards[i]);
    for (const auto& entry : shards[i]) {
      index["weight_map"][entry.first] = name;
    }
  }
  write_text_file(directory / index_name, index.dump(2) + "\n");
  fs::remove(directory / single, ignored);  // of an earlier, smaller checkpoint
}

}  // namespace ospnext
