// Writes a transformer with the weights of its blocks as HiFloat8 codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "core/cancel.h"
#include "core/progress.h"
#include "packages/model_folder.h"

namespace ospnext {

struct QuantizedModel {
  std::filesystem::path file;  // relative to the folder; for shards, their index
  size_t tensors = 0;          // without scales
  size_t rounded = 0;          // tensors written as codes
  int64_t parameters = 0;
  int64_t bytes = 0;  // with scales
};

// Writes the transformer to the new folder `output`: config.json ("weight_format": "hif8") and
// safetensors files. For each weight X that hif8::is_rounded_weight() names, they contain its codes
// (uint8) and X_hif8_scale, the float32 scale scale_max_forward / amax of these codes. Other
// tensors keep their dtype, except that 8-bit and 64-bit tensors become float32. LoRAs in `files`
// are added first. The tensors are written one by one, with little memory. The folder appears when
// it is complete. Throws InputError for broken or incomplete weights, weights that already are HiF8
// codes, and a folder that is not empty; RunError if writing fails; Cancelled.
QuantizedModel quantize_transformer(const PartFiles& files, int64_t max_shard_bytes,
                                    const std::filesystem::path& output, Progress& progress,
                                    const CancellationToken& cancel);

}  // namespace ospnext
