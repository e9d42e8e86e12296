// Models of the released sizes with random weights, to measure with where the real ones are not at hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "io/model_folder.h"
#include "io/readers/tensor_file.h"
#include "models/transformer_config.h"

namespace ospnext {

// Wan2.1's transformer "14b" or "1.3b"; InputError beginning with `flag` for another text.
TransformerConfig released_transformer(const std::string& size, const std::string& flag);

struct RandomModel {
  TransformerConfig transformer;
  std::vector<ModelPart> parts{ModelPart::kTransformer};  // to write, the tokenizer not
  uint64_t seed = 0;
  DType dtype = DType::kBF16;  // kF32, kF16 or kBF16
  int64_t max_shard_bytes = 10'000'000'000;
};

// Writes the parts to the new folder `output` in Wan's layout: UMT5-XXL, Wan's VAE and the transformer.
// Matrices are normal with variance 1 / fan-in, scales of norms are 1, all else is small, so that
// activations stay finite. The numbers depend on seed, tensor name and place alone, not on threads or
// dtype. Throws InputError, RunError, Cancelled.
void write_random_model(const RandomModel& model, const std::filesystem::path& output,
                        Progress& progress, const CancellationToken& cancel);

}  // namespace ospnext
