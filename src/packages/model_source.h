// The source of the parts of a pipeline's model.
#pragma once

#include <cstdint>

#include "packages/load_model.h"

namespace ospnext {

// The sizes are known from the beginning. A part is made on request, complete and ready for
// inference, and the caller owns it.
class ModelSource {
 public:
  virtual ~ModelSource() = default;
  virtual TransformerConfig transformer_config() const = 0;
  virtual Umt5Config text_encoder_config() const = 0;
  virtual VaeConfig vae_config() const = 0;
  virtual Tokenizer tokenizer() const = 0;
  virtual Umt5Encoder text_encoder(const ComputeOptions& compute) const = 0;
  // With several ranks, all of them call it, and each gets its shard of the blocks.
  virtual Transformer transformer(const ComputeOptions& compute,
                                  const WeightRanks& ranks) const = 0;
  Transformer transformer(const ComputeOptions& compute) const { return transformer(compute, {}); }
  virtual Vae vae(const ComputeOptions& compute) const = 0;
  // Bytes of a part's weights in memory at `dtype`. Not for the tokenizer.
  virtual int64_t bytes(ModelPart part, at::ScalarType dtype) const = 0;
  // Bytes that a part takes on the device: all of its weights, or with offloaded ones an upper
  // estimate of those that are there at the same time.
  int64_t device_bytes(ModelPart part, const ComputeOptions& compute) const;
};

// Reads the parts from the files of a package. Methods throw as the functions of load_model.h do.
class ModelFileSource : public ModelSource {
 public:
  explicit ModelFileSource(ModelFiles files) : files_(std::move(files)) {}
  TransformerConfig transformer_config() const override;
  Umt5Config text_encoder_config() const override;
  VaeConfig vae_config() const override;
  Tokenizer tokenizer() const override;
  Umt5Encoder text_encoder(const ComputeOptions& compute) const override;
  using ModelSource::transformer;
  Transformer transformer(const ComputeOptions& compute, const WeightRanks& ranks) const override;
  Vae vae(const ComputeOptions& compute) const override;
  int64_t bytes(ModelPart part, at::ScalarType dtype) const override;

 private:
  ModelFiles files_;
};

}  // namespace ospnext
