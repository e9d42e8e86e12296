// Writes safetensors files in pieces, so that no whole model must be in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// Receives the next elements of a tensor, contiguous and on the CPU.
using PieceSink = std::function<void(const at::Tensor& piece)>;

// A tensor to write: its header entry, and a function that produces its data later.
struct TensorOutput {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  // Produces all elements in row-major order, in pieces of dtype `dtype`.
  std::function<void(const PieceSink&)> produce;

  int64_t bytes() const;
};

using TensorOutputs = std::map<std::string, TensorOutput>;

// Writes one safetensors file with sorted names and with "format": "pt" added to the metadata. The
// write is atomic: the data goes to a file beside `file`, is flushed to disk, and the file is
// renamed. On failure nothing is left. Throws InputError if the location is not writable, RunError
// if writing fails (disk full), and the exceptions of `produce`.
void write_safetensors(const std::filesystem::path& file, const TensorOutputs& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// Writes <stem>.safetensors if all tensors fit in `max_shard_bytes`, otherwise shards
// <stem>-00001-of-0000N.safetensors and <stem>.safetensors.index.json. A tensor is never split.
void write_sharded_safetensors(const std::filesystem::path& directory, const std::string& stem,
                               const TensorOutputs& tensors, int64_t max_shard_bytes);

}  // namespace ospnext
