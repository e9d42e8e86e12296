#include "packages/model_source.h"

#include <algorithm>

namespace ospnext {

int64_t ModelSource::device_bytes(ModelPart part, const ComputeOptions& compute) const {
  constexpr int64_t kBlocks = 5;  // one in use, two ahead; what is not in blocks takes up to two
  const int64_t all = bytes(part, compute.dtype);
  return part == ModelPart::kTransformer && compute.offload && !compute.device.is_cpu()
             ? std::min(all, all * kBlocks / transformer_config().num_layers)
             : all;
}

TransformerConfig ModelFileSource::transformer_config() const {
  const PartFiles& part = files_.require(ModelPart::kTransformer);
  open_loras(part);  // throws before anything is computed
  return read_transformer_config(part);
}

Umt5Config ModelFileSource::text_encoder_config() const {
  return read_text_encoder_config(files_.require(ModelPart::kTextEncoder));
}

VaeConfig ModelFileSource::vae_config() const {
  return read_vae_config(files_.require(ModelPart::kVae));
}

Tokenizer ModelFileSource::tokenizer() const {
  return load_tokenizer(files_.require(ModelPart::kTokenizer));
}

Umt5Encoder ModelFileSource::text_encoder(const ComputeOptions& compute) const {
  return load_text_encoder(files_.require(ModelPart::kTextEncoder), compute);
}

Transformer ModelFileSource::transformer(const ComputeOptions& compute,
                                         const WeightRanks& ranks) const {
  return load_transformer(files_.require(ModelPart::kTransformer), compute, ranks);
}

Vae ModelFileSource::vae(const ComputeOptions& compute) const {
  return load_vae(files_.require(ModelPart::kVae), compute);
}

int64_t ModelFileSource::bytes(ModelPart part, at::ScalarType dtype) const {
  return weight_bytes(files_.require(part), dtype);
}

}  // namespace ospnext
