#include "train/trained_model_source.h"

#include "packages/load_model.h"

namespace ospnext {

TrainedModelSource::TrainedModelSource(Transformer transformer, Umt5Encoder text_encoder,
                                       std::filesystem::path tokenizer, ModelFiles vae)
    : transformer_(std::move(transformer)),
      text_encoder_(std::move(text_encoder)),
      tokenizer_(std::move(tokenizer)),
      vae_(std::move(vae)) {}

VaeConfig TrainedModelSource::vae_config() const {
  return read_vae_config(vae_.require(ModelPart::kVae));
}

Vae TrainedModelSource::vae(const ComputeOptions& compute) const {
  return load_vae(vae_.require(ModelPart::kVae), compute);
}

int64_t TrainedModelSource::bytes(ModelPart part, at::ScalarType dtype) const {
  return part == ModelPart::kVae ? weight_bytes(vae_.require(part), dtype) : 0;
}

}  // namespace ospnext
