// Safetensors files written piece by piece, so that no whole model need be in memory.
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

// Takes the next elements of a tensor, contiguous on the CPU.
using PieceSink = std::function<void(const at::Tensor& piece)>;

// A tensor to be written: what the header says of it, and its data when their turn comes.
struct TensorOutput {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  // Gives all elements in row-major order, in pieces of `dtype`.
  std::function<void(const PieceSink&)> produce;

  int64_t bytes() const;
};

using TensorOutputs = std::map<std::string, TensorOutput>;

// Writes one safetensors file: names sorted, metadata "format": "pt" added. Atomic: written beside
// `file`, flushed to disk, renamed; on failure nothing is left. Throws InputError when the place
// cannot be written to, RunError when writing fails (disk full), and what `produce` throws.
void write_safetensors(const std::filesystem::path& file, const TensorOutputs& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// Writes <stem>.safetensors when all tensors fit in `max_shard_bytes`, else shards
// <stem>-00001-of-0000N.safetensors and <stem>.safetensors.index.json. A tensor is never split.
void write_sharded_safetensors(const std::filesystem::path& directory, const std::string& stem,
                               const TensorOutputs& tensors, int64_t max_shard_bytes);

}  // namespace ospnext
