// Writes trained parts as a diffusers-style model folder that generate reads.
#pragma once

#include <filesystem>
#include <string>

#include "models/transformer.h"
#include "models/umt5.h"
#include "models/vae.h"

namespace ospnext {

// No file is larger, so that repositories with a limit for single files take them.
inline constexpr int64_t kMaxShardBytes = 14'000'000;

// config.json and weights in float16: eleven bits of mantissa, and no weight is near its limits.
void write_vae_folder(const std::filesystem::path& folder, const Vae& vae, const VaeConfig& config);

// config.json and weights in bf16 (norms, modulation and time embedding too: they are read back into
// float32).
void write_transformer_folder(const std::filesystem::path& folder, const Transformer& transformer,
                              const TransformerConfig& config);
void write_text_encoder_folder(const std::filesystem::path& folder, const Umt5Encoder& encoder,
                               const Umt5Config& config);

// model_index.json, the tokenizer's copy and the defaults of generate.
void write_model_index(const std::filesystem::path& folder, const std::filesystem::path& tokenizer,
                       const std::filesystem::path& generation_config);

}  // namespace ospnext
