// A transformer written anew with the weights of its blocks as HiFloat8 codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "core/cancel.h"
#include "core/progress.h"
#include "packages/model_folder.h"

namespace ospnext {

struct QuantizedModel {
  std::filesystem::path file;  // relative to the folder; the index of shards
  size_t tensors = 0;          // without scales
  size_t rounded = 0;          // of them, as codes
  int64_t parameters = 0;
  int64_t bytes = 0;  // with scales
};

// Writes the transformer to the new folder `output`: config.json ("weight_format": "hif8"), and safetensors
// in which each weight that hif8::is_rounded_weight() names is its codes, uint8, with X_hif8_scale beside
// X, the float32 scale_max_forward / amax they were made with. Other tensors keep their dtype, 8-bit and
// 64-bit ones become float32. LoRAs of `files` are added first. Tensor by tensor, with little memory; the
// folder appears when it is complete. Throws InputError: broken or incomplete weights, weights that are
// HiF8 codes already, a folder that is not empty; RunError for failing writes; Cancelled.
QuantizedModel quantize_transformer(const PartFiles& files, int64_t max_shard_bytes,
                                    const std::filesystem::path& output, Progress& progress,
                                    const CancellationToken& cancel);

}  // namespace ospnext
