// Writes a model in another package layout or dtype, or with LoRAs merged into it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "io/readers/tensor_file.h"
#include "packages/part_layouts.h"

namespace ospnext {

struct Conversion {
  ModelFamily layout = ModelFamily::kDiffusers;
  std::optional<DType> dtype;  // dtype of all weights; empty: each weight keeps its own
  int64_t max_shard_bytes = 0;
};

// A part that was written.
struct WrittenPart {
  std::string title;           // "transformer"
  std::filesystem::path file;  // relative to the package; for shards, their index
  size_t tensors = 0;
  int64_t parameters = 0;
  int64_t bytes = 0;
};

// Checks all parts in `files`, then writes them tensor by tensor, with little memory, to the new
// folder `output`. The folder appears when it is complete. A tensor that keeps its dtype keeps its
// bytes. LoRAs of the transformer, fp8 scales and HiF8 codes are applied in float32, and the result
// is rounded once. Throws InputError for broken or incomplete parts, a folder that is not empty, a
// configuration that the layout cannot express, and 8-bit weights that would change but have no
// target dtype; RunError if writing fails; Cancelled.
std::vector<WrittenPart> convert_model(const ModelFiles& files, const Conversion& conversion,
                                       const std::filesystem::path& output, Progress& progress,
                                       const CancellationToken& cancel);

}  // namespace ospnext
