// Models of which a part is trained in this process, for clips that show how the training goes: the
// trained parts are the modules themselves, not copies.
#pragma once

#include <filesystem>

#include "packages/model_source.h"

namespace ospnext {

// Transformer and text encoder are trained. The tokenizer and the VAE come from files.
class TrainedModelSource final : public ModelSource {
 public:
  TrainedModelSource(Transformer transformer, Umt5Encoder text_encoder,
                     std::filesystem::path tokenizer, ModelFiles vae);

  TransformerConfig transformer_config() const override { return transformer_->config(); }
  Umt5Config text_encoder_config() const override { return text_encoder_->config(); }
  VaeConfig vae_config() const override;
  Tokenizer tokenizer() const override { return Tokenizer(tokenizer_); }
  Umt5Encoder text_encoder(const ComputeOptions&) const override { return text_encoder_; }
  using ModelSource::transformer;
  Transformer transformer(const ComputeOptions&, const WeightRanks&) const override {
    return transformer_;
  }
  Vae vae(const ComputeOptions& compute) const override;
  // What a part takes beside the training: nothing, but for the VAE.
  int64_t bytes(ModelPart part, at::ScalarType dtype) const override;

 private:
  Transformer transformer_;
  Umt5Encoder text_encoder_;
  std::filesystem::path tokenizer_;
  ModelFiles vae_;
};

// The transformer is trained. The other parts come from files.
class TrainedTransformerSource final : public ModelFileSource {
 public:
  TrainedTransformerSource(ModelFiles files, Transformer transformer)
      : ModelFileSource(std::move(files)), transformer_(std::move(transformer)) {}
  TransformerConfig transformer_config() const override { return transformer_->config(); }
  using ModelFileSource::transformer;
  Transformer transformer(const ComputeOptions&, const WeightRanks&) const override {
    return transformer_;
  }
  int64_t bytes(ModelPart part, at::ScalarType dtype) const override {
    return part == ModelPart::kTransformer ? 0 : ModelFileSource::bytes(part, dtype);
  }

 private:
  Transformer transformer_;
};

}  // namespace ospnext
