#include "io/safetensors_writer.h"

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

void write_bytes(std::ofstream& out, const void* data, size_t size, const fs::path& file) {
  errno = 0;
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  if (!out.flush()) {
    throw RunError(file.string() +
                   ": cannot write: " + (errno == 0 ? "unknown reason" : std::strerror(errno)));
  }
}

// The header, preceded by its length and padded with spaces to a multiple of 8 bytes.
std::string header_text(const TensorOutputs& tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  header["__metadata__"]["format"] = "pt";
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const int64_t end = offset + tensor.bytes();
    header[name] = {{"dtype", dtype_name(tensor.dtype)},
                    {"shape", tensor.shape},
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

int64_t TensorOutput::bytes() const {
  const auto count = byte_count(shape, item_size(dtype));
  TORCH_CHECK(count, "a tensor of shape ", ospnext::shape_text(shape), " is too large");
  return *count;
}

void write_safetensors(const fs::path& file, const TensorOutputs& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string header = header_text(tensors, metadata);
  PendingFile pending(file);
  std::ofstream out(pending.path(), std::ios::binary);
  write_bytes(out, header.data(), header.size(), file);
  for (const auto& [name, tensor] : tensors) {
    int64_t rest = tensor.bytes();
    tensor.produce([&, type = scalar_type(tensor.dtype)](const at::Tensor& piece) {
      TORCH_CHECK(piece.scalar_type() == type && piece.is_contiguous() && piece.is_cpu(), name,
                  ": a piece of another kind");
      rest -= static_cast<int64_t>(piece.nbytes());
      TORCH_CHECK(rest >= 0, name, ": more data than its shape holds");
      write_bytes(out, piece.data_ptr(), piece.nbytes(), file);
    });
    TORCH_CHECK(rest == 0, name, ": less data than its shape holds");
  }
  out.close();
  pending.commit();
}

void write_sharded_safetensors(const fs::path& directory, const std::string& stem,
                               const TensorOutputs& tensors, int64_t max_shard_bytes) {
  std::vector<TensorOutputs> shards(1);
  int64_t shard_bytes = 0;
  int64_t total_bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    const int64_t bytes = tensor.bytes();
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
    write_safetensors(directory / single, tensors);
    fs::remove(directory / index_name, ignored);  // left by an earlier, larger checkpoint
    return;
  }
  nlohmann::json index;
  index["metadata"]["total_size"] = total_bytes;
  for (size_t i = 0; i < shards.size(); ++i) {
    char number[32];
    std::snprintf(number, sizeof(number), "-%05zu-of-%05zu", i + 1, shards.size());
    const std::string name = stem + number + ".safetensors";
    write_safetensors(directory / name, shards[i]);
    for (const auto& entry : shards[i]) {
      index["weight_map"][entry.first] = name;
    }
  }
  write_text_file(directory / index_name, index.dump(2) + "\n");
  fs::remove(directory / single, ignored);  // left by an earlier, smaller checkpoint
}

}  // namespace ospnext
