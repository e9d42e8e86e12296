// Writes trained parts as a diffusers-style model folder that generate reads.
#pragma once

#include <filesystem>
#include <string>

#include "io/safetensors_writer.h"
#include "models/transformer_config.h"
#include "models/umt5.h"
#include "models/vae.h"

namespace ospnext {

// Largest size of a weight file in bytes, for repositories that limit the size of single files.
inline constexpr int64_t kMaxShardBytes = 14'000'000;

// Writes config.json and the weights in float16: it has a significand of 11 bits, and no weight is
// near the limits of its range.
void write_vae_folder(const std::filesystem::path& folder, const Vae& vae, const VaeConfig& config);

// Each writes config.json and the weights, which have the names of our modules.
void write_transformer_folder(const std::filesystem::path& folder, const TensorOutputs& weights,
                              const TransformerConfig& config);
void write_text_encoder_folder(const std::filesystem::path& folder, const TensorOutputs& weights,
                               const Umt5Config& config);

// Writes model_index.json, and copies the tokenizer and generation_config.json (defaults of
// generate).
void write_model_index(const std::filesystem::path& folder, const std::filesystem::path& tokenizer,
                       const std::filesystem::path& generation_config);

}  // namespace ospnext
