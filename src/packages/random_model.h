// Models of the released sizes with random weights, for measurements without the real weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "io/readers/tensor_file.h"
#include "models/transformer_config.h"
#include "packages/model_folder.h"
#include "packages/model_source.h"

namespace ospnext {

// Wan2.1's transformer "14b" or "1.3b". Throws InputError, beginning with `flag`, for any other
// text.
TransformerConfig released_transformer(const std::string& size, const std::string& flag);

// The configurations of a model's parts.
struct PartConfigs {
  TransformerConfig transformer;
  Umt5Config text_encoder;
  VaeConfig vae;
};
// The dense model of a released size, or "small": a model of 20 million parameters for tests on a
// CPU. Throws InputError, beginning with `flag`, for any other text.
PartConfigs model_of_size(const std::string& size, const std::string& flag);

struct RandomModel {
  TransformerConfig transformer;
  std::vector<ModelPart> parts{ModelPart::kTransformer};  // parts to write, without the tokenizer
  uint64_t seed = 0;
  DType dtype = DType::kBF16;  // kF32, kF16 or kBF16
  int64_t max_shard_bytes = 10'000'000'000;
};

// Writes the parts to the new folder `output` in Wan's layout: the transformer, UMT5-XXL and Wan's
// VAE. Matrices are normal with variance 1 / fan-in, scales of norms are 1, and all other tensors
// are small, so that activations stay finite. The numbers depend only on the seed, the tensor's
// name and the element's index, not on the number of threads or the dtype. Throws InputError,
// RunError, Cancelled.
void write_random_model(const RandomModel& model, const std::filesystem::path& output,
                        Progress& progress, const CancellationToken& cancel);

// The same in memory, without files. Each requested part gets new weights, drawn on the device that
// computes with them, so they differ from the weights in files. The tokenizer splits texts into a
// few English words and letters.
class RandomModelSource : public ModelSource {
 public:
  RandomModelSource(const TransformerConfig& transformer, const Umt5Config& text_encoder,
                    const VaeConfig& vae, uint64_t seed)
      : transformer_(transformer), text_encoder_(text_encoder), vae_(vae), seed_(seed) {}
  TransformerConfig transformer_config() const override { return transformer_; }
  Umt5Config text_encoder_config() const override { return text_encoder_; }
  VaeConfig vae_config() const override { return vae_; }
  Tokenizer tokenizer() const override;
  Umt5Encoder text_encoder(const ComputeOptions& compute) const override;
  using ModelSource::transformer;
  Transformer transformer(const ComputeOptions& compute, const WeightRanks& ranks) const override;
  Vae vae(const ComputeOptions& compute) const override;
  int64_t bytes(ModelPart part, at::ScalarType dtype) const override;

 private:
  TransformerConfig transformer_;
  Umt5Config text_encoder_;
  VaeConfig vae_;
  uint64_t seed_;
};

}  // namespace ospnext
