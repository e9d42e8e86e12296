// Families and ends of LoRA names.
#include "io/readers/lora_keys.h"

#include <array>
#include <string_view>
#include <utility>

#include "io/readers/key_layouts.h"
#include "io/readers/key_rewriting.h"

namespace ospnext {
namespace {

using std::string_view;

struct Ending {
  string_view text;
  LoraPart part;
};

constexpr std::array kEndings{
    Ending{".lora_A.weight", LoraPart::kDown},
    Ending{".lora_B.weight", LoraPart::kUp},
    Ending{".lora_A", LoraPart::kDown},
    Ending{".lora_B", LoraPart::kUp},
    Ending{".lora_B.bias", LoraPart::kUpBias},
    Ending{".lora_down.weight", LoraPart::kDown},
    Ending{".lora_up.weight", LoraPart::kUp},
    Ending{"_lora.down.weight", LoraPart::kDown},
    Ending{"_lora.up.weight", LoraPart::kUp},
    Ending{".lora.down.weight", LoraPart::kDown},
    Ending{".lora.up.weight", LoraPart::kUp},
    Ending{".lora_linear_layer.down.weight", LoraPart::kDown},
    Ending{".lora_linear_layer.up.weight", LoraPart::kUp},
    Ending{".alpha", LoraPart::kAlpha},
    Ending{".diff", LoraPart::kWeightDiff},
    Ending{".diff_b", LoraPart::kBiasDiff},
    Ending{".diff_m", LoraPart::kModulationDiff},
    Ending{".dora_scale", LoraPart::kDora},
    Ending{".lora_magnitude_vector", LoraPart::kDora},
    Ending{".lora_magnitude_vector.weight", LoraPart::kDora},
};

constexpr std::array kPrefixes{
    std::pair{string_view("base_model.model."), LoraFamily::kPeft},
    std::pair{string_view("transformer."), LoraFamily::kDiffusers},
    std::pair{string_view("diffusion_model."), LoraFamily::kComfy},
    std::pair{string_view("model.diffusion_model."), LoraFamily::kComfy},
    std::pair{string_view("pipe.dit."), LoraFamily::kPlain},
};

constexpr std::array<string_view, 2> kKohyaPrefixes{"lora_unet__", "lora_unet_"};

// Layers whose names kohya's scripts join with "_", so that they must be known to be taken apart.
constexpr std::array<string_view, 24> kBlockLayers{
    "self_attn.q",       "self_attn.k",       "self_attn.v",  "self_attn.o",    "self_attn.norm_q",
    "self_attn.norm_k",  "cross_attn.q",      "cross_attn.k", "cross_attn.v",   "cross_attn.o",
    "cross_attn.norm_q", "cross_attn.norm_k", "norm3",        "ffn.0",          "ffn.2",
    "modulation",        "attn1.to_q",        "attn1.to_k",   "attn1.to_v",     "attn1.to_out.0",
    "attn2.to_q",        "attn2.to_k",        "attn2.to_v",   "attn2.to_out.0",
};
constexpr std::array<string_view, 9> kOuterLayers{
    "patch_embedding",  "text_embedding.0", "text_embedding.2",
    "time_embedding.0", "time_embedding.2", "time_projection.1",
    "head.head",        "head.modulation",  "head",
};

// Whether `joined` is `name` with "_" for ".".
bool is_joined(string_view joined, string_view name) {
  if (joined.size() != name.size()) {
    return false;
  }
  for (size_t i = 0; i < name.size(); ++i) {
    if (joined[i] != (name[i] == '.' ? '_' : name[i])) {
      return false;
    }
  }
  return true;
}

// "blocks_3_self_attn_q" -> "blocks.3.self_attn.q"
std::optional<std::string> dotted_layer(string_view joined) {
  constexpr string_view kBlocks = "blocks_";
  if (!joined.starts_with(kBlocks)) {
    for (const string_view layer : kOuterLayers) {
      if (is_joined(joined, layer)) {
        return std::string(layer);
      }
    }
    return std::nullopt;
  }
  joined.remove_prefix(kBlocks.size());
  const size_t digits = joined.find_first_not_of("0123456789");
  if (digits == 0) {
    return std::nullopt;
  }
  const std::string block = "blocks." + std::string(joined.substr(0, digits));
  if (digits == joined.npos) {
    return block;
  }
  for (const string_view layer : kBlockLayers) {
    if (joined[digits] == '_' && is_joined(joined.substr(digits + 1), layer)) {
      return block + "." + std::string(layer);
    }
  }
  return std::nullopt;
}

// Without the adapter's name, which live PEFT models write: ".lora_A.default.weight".
std::string without_adapter_name(const std::string& name) {
  for (const string_view marker : {".lora_A.", ".lora_B.", ".lora_magnitude_vector."}) {
    const size_t at = name.find(marker);
    if (at == name.npos) {
      continue;
    }
    const size_t adapter = at + marker.size();
    const size_t dot = name.find('.', adapter);
    if (dot != name.npos && name.find('.', dot + 1) == name.npos) {
      return name.substr(0, adapter) + name.substr(dot + 1);
    }
  }
  return name;
}

std::string canonical_layer(const std::string& layer) {
  std::string name = canonical_transformer_key(layer + ".");
  if (name.ends_with('.')) {
    name.pop_back();
  }
  return name;
}

}  // namespace

std::string LoraKey::target() const {
  const bool is_modulation = layer == "modulation" || layer.ends_with(".modulation");
  switch (part) {
    case LoraPart::kUpBias:
    case LoraPart::kBiasDiff:
      return layer + ".bias";
    case LoraPart::kModulationDiff:
      return is_modulation ? layer : layer + ".modulation";
    default:
      return is_modulation ? layer : layer + ".weight";
  }
}

std::optional<LoraKey> parse_lora_key(const std::string& name) {
  const std::string plain = without_adapter_name(name);
  for (const auto& [ending, part] : kEndings) {
    if (!plain.ends_with(ending) || plain.size() == ending.size()) {
      continue;
    }
    const std::string place = plain.substr(0, plain.size() - ending.size());
    for (const string_view prefix : kKohyaPrefixes) {
      if (place.starts_with(prefix)) {
        const auto layer = dotted_layer(string_view(place).substr(prefix.size()));
        return layer ? std::optional(
                           LoraKey{LoraFamily::kKohya, part, canonical_layer(*layer), *layer})
                     : std::nullopt;
      }
    }
    for (const auto& [prefix, family] : kPrefixes) {
      if (place.starts_with(prefix)) {
        const std::string written = place.substr(prefix.size());
        return LoraKey{family, part, canonical_layer(written), written};
      }
    }
    return LoraKey{LoraFamily::kPlain, part, canonical_layer(place), place};
  }
  return std::nullopt;
}

const char* lora_family_title(LoraFamily family) {
  switch (family) {
    case LoraFamily::kDiffusers:
      return "diffusers (transformer.*)";
    case LoraFamily::kComfy:
      return "Comfy (diffusion_model.*)";
    case LoraFamily::kKohya:
      return "kohya (lora_unet_*)";
    case LoraFamily::kPeft:
      return "PEFT (base_model.model.*)";
    case LoraFamily::kPlain:
      break;
  }
  return "plain names";
}

}  // namespace ospnext
