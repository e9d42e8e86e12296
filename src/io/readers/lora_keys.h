// Parses tensor names in LoRA files.
#pragma once

#include <optional>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Families of tensor names. "N" is the number of a block, "X" the ending that gives the LoraPart.
enum class LoraFamily {
  kDiffusers,  // transformer.blocks.N.attn1.to_q.X
  kComfy,      // diffusion_model.blocks.N.self_attn.q.X
  kKohya,      // lora_unet_blocks_N_self_attn_q.X
  kPeft,       // base_model.model.blocks.N.self_attn.q.X
  kPlain,      // blocks.N.self_attn.q.X
};

// The role of one tensor. kDown and kUp are the pair of a layer; kUpBias and kAlpha belong to it.
enum class LoraPart {
  kDown,            // [r, in]
  kUp,              // [out, r]
  kUpBias,          // [out], added to the layer's bias with the pair's scale
  kAlpha,           // scalar: the pair's scale is alpha / r
  kWeightDiff,      // shape of the weight
  kBiasDiff,        // shape of the bias
  kModulationDiff,  // shape of the modulation
  kDora,            // magnitudes of DoRA, which is not read
};

struct LoraKey {
  LoraFamily family;
  LoraPart part;
  std::string layer;    // in the names of our modules: "blocks.0.self_attn.q"
  std::string written;  // the layer's name in the file, without prefixes and ending

  // The parameter that is changed: "blocks.0.self_attn.q.weight".
  std::string target() const;
};

// Parses a tensor name; nothing if it belongs to no known family. Does not check that the layer
// exists.
// Source: diffusers loaders/lora_conversion_utils.py (Wan), peft utils/save_and_load.py.
std::optional<LoraKey> parse_lora_key(const std::string& name);

// The adapter method other than LoRA that uses such a tensor name, for example "LoKr"; null if no
// known method does.
const char* other_method(const std::string& name);

// Whether any tensor name is one of a LoRA or of another adapter method.
bool looks_like_lora(const Checkpoint& checkpoint);

const char* lora_family_title(LoraFamily family);

// Whether the parameter belongs to a layer of a block that computes with the latent in each step.
// The others see the text or the time alone, or are no matrices of a block.
bool depends_on_noise(std::string_view parameter);
inline constexpr const char* kNoisyLayers =
    "pairs of matrices for self_attn, cross_attn.q, cross_attn.o and ffn alone";

}  // namespace ospnext
