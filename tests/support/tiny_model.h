// Complete models of a few thousand parameters with random weights, written to a folder.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/torch/torch.h"
#include "models/transformer.h"
#include "models/umt5.h"
#include "models/vae_config.h"

namespace ospnext {

// Small sizes that can also be derived from tensor shapes alone.
TransformerConfig tiny_transformer_config();
// Eight blocks with four heads, for meshes of ranks. `type`: full, dual_end or uniform.
TransformerConfig ranks_transformer_config(const std::string& type);
Umt5Config tiny_text_encoder_config();
VaeConfig tiny_vae_config();

// Random weights that give activations of about 1: matrices scaled by their fan-in, norm weights
// near 1.
std::map<std::string, at::Tensor> random_weights(torch::nn::Module& module, uint64_t seed);
// A transformer with such weights, float32 on the CPU.
Transformer random_transformer(const TransformerConfig& config, uint64_t seed);

// Gives every linear an adapter of rank 8 with random matrices, which may need gradients.
void add_adapters(Transformer& transformer, bool trainable);

void train_tiny_tokenizer(const std::filesystem::path& file);

// Writes transformer/, vae/ and text_encoder/, each with a config.json; tokenizer/; and
// generation_config.json.
void write_tiny_diffusers_model(
    const std::filesystem::path& folder,
    const TransformerConfig& transformer_config = tiny_transformer_config());
// Writes the same weights in the folder structure of Wan-AI, without any config.json.
void write_tiny_wan_model(const std::filesystem::path& folder);
// Writes a small sparse model with several heads.
void write_sparse_model(const std::filesystem::path& folder);

}  // namespace ospnext
