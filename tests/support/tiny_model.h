// A whole model of a few thousand parameters with random weights, as a folder.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/torch/torch.h"
#include "models/transformer.h"
#include "models/umt5.h"
#include "models/vae_config.h"

namespace ospnext {

// Sizes that can be told from tensor shapes alone, too.
TransformerConfig tiny_transformer_config();
Umt5Config tiny_text_encoder_config();
VaeConfig tiny_vae_config();

// Weights that leave activations of about 1: matrices by their fan-in, scales near 1.
std::map<std::string, at::Tensor> random_weights(torch::nn::Module& module, uint64_t seed);
// float32, on the CPU, with those weights.
Transformer random_transformer(const TransformerConfig& config, uint64_t seed);

void train_tiny_tokenizer(const std::filesystem::path& file);

// transformer/, vae/, text_encoder/, each with config.json, tokenizer/, generation_config.json.
void write_tiny_diffusers_model(
    const std::filesystem::path& folder,
    const TransformerConfig& transformer_config = tiny_transformer_config());
// The same weights as the Wan-AI packages lay them out, without any config.json.
void write_tiny_wan_model(const std::filesystem::path& folder);
// A small sparse one with several heads.
void write_sparse_model(const std::filesystem::path& folder);

}  // namespace ospnext
