// Tensor names in LoRA files, taken apart.
#pragma once

#include <optional>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Who names tensors how. "N" is a block, "X" the end that says what a tensor is.
enum class LoraFamily {
  kDiffusers,  // transformer.blocks.N.attn1.to_q.X
  kComfy,      // diffusion_model.blocks.N.self_attn.q.X
  kKohya,      // lora_unet_blocks_N_self_attn_q.X
  kPeft,       // base_model.model.blocks.N.self_attn.q.X
  kPlain,      // blocks.N.self_attn.q.X
};

// What one tensor is. All but kUpBias and the pair stand alone.
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
  std::string written;  // the layer as the file writes it, without what stands before and behind

  // The parameter that is changed: "blocks.0.self_attn.q.weight".
  std::string target() const;
};

// Nothing for a name of no known family. Whether the layer exists is not known here.
// Source: diffusers loaders/lora_conversion_utils.py (Wan), peft utils/save_and_load.py.
std::optional<LoraKey> parse_lora_key(const std::string& name);

// The method that has a tensor of this name and adds another thing than up · down, such as "LoKr";
// null for none that is known.
const char* other_method(const std::string& name);

// Whether any tensor is named as in a LoRA, or as in one of the other methods.
bool looks_like_lora(const Checkpoint& checkpoint);

const char* lora_family_title(LoraFamily family);

}  // namespace ospnext
