// Parses LoRA tensor names: prefixes, layers and endings.
#include "io/readers/lora_keys.h"

#include <algorithm>
#include <array>
#include <map>
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
constexpr string_view kPeftPrefix = kPrefixes[0].first;
constexpr int kMostPrefixes = 8;  // in one name

// Prefixes of scripts that write "_" instead of "." in layer names: kohya, LyCORIS, OneTrainer.
constexpr auto kJoiningPrefixes = std::to_array<string_view>({
    "lora_unet_",
    "lycoris_",
    "lora_transformer_",
});

// The layers of Wan's transformer: those in a block, and the others. joined_layers() derives
// diffusers' names from them.
constexpr std::array<string_view, 16> kBlockLayers{
    "self_attn.q",       "self_attn.k",       "self_attn.v",  "self_attn.o",  "self_attn.norm_q",
    "self_attn.norm_k",  "cross_attn.q",      "cross_attn.k", "cross_attn.v", "cross_attn.o",
    "cross_attn.norm_q", "cross_attn.norm_k", "norm3",        "ffn.0",        "ffn.2",
    "modulation",
};
constexpr std::array<string_view, 9> kOuterLayers{
    "patch_embedding",  "text_embedding.0", "text_embedding.2",
    "time_embedding.0", "time_embedding.2", "time_projection.1",
    "head.head",        "head.modulation",  "head",
};

struct OtherMethod {
  string_view mark;  // part of the name, after a dot
  const char* title;
};

// Source: the parameter names of PEFT's tuners and of LyCORIS' modules.
constexpr std::array kOtherMethods{
    OtherMethod{"lokr_", "LoKr"},       OtherMethod{"hada_", "LoHa"},
    OtherMethod{"boft_", "BOFT"},       OtherMethod{"oft_", "OFT"},
    OtherMethod{"ia3_", "IA3"},         OtherMethod{"on_input", "IA3"},
    OtherMethod{"glora_", "GLoRA"},     OtherMethod{"a1.weight", "GLoRA"},
    OtherMethod{"a2.weight", "GLoRA"},  OtherMethod{"b1.weight", "GLoRA"},
    OtherMethod{"b2.weight", "GLoRA"},  OtherMethod{"bm1.weight", "GLoRA"},
    OtherMethod{"bm2.weight", "GLoRA"}, OtherMethod{"lora_E", "AdaLoRA"},
    OtherMethod{"lora_diag", "KaSA"},   OtherMethod{"vera_lambda_", "VeRA"},
    OtherMethod{"vblora_", "VB-LoRA"},  OtherMethod{"fourierft_", "FourierFT"},
    OtherMethod{"hra_", "HRA"},         OtherMethod{"randlora_", "RandLoRA"},
};

std::string joined(string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

using LayersByJoinedName = std::map<std::string, string_view, std::less<>>;

// Joined name (Wan's and diffusers') -> Wan's layer. Layers in a block have no "blocks.N." here.
template <size_t N>
LayersByJoinedName joined_layers(const std::array<string_view, N>& layers,
                                 const std::string& place) {
  LayersByJoinedName names;
  for (const string_view layer : layers) {
    std::string other = diffusers_transformer_key(place + std::string(layer) + ".");
    other = other.substr(place.size());
    if (other.ends_with('.')) {
      other.pop_back();
    }
    names.emplace(joined(layer), layer);
    names.emplace(joined(other), layer);
  }
  return names;
}

// "blocks_3_self_attn_q" -> "blocks.3.self_attn.q". Any "_" may be a dot already. Nothing for an
// unknown layer.
std::optional<std::string> known_layer(string_view name) {
  static const LayersByJoinedName outer = joined_layers(kOuterLayers, "");
  static const LayersByJoinedName inner = joined_layers(kBlockLayers, "blocks.0.");
  constexpr string_view kBlocks = "blocks_";
  const std::string text = joined(name);
  string_view rest = text;
  if (!rest.starts_with(kBlocks)) {
    const auto layer = outer.find(rest);
    return layer == outer.end() ? std::nullopt : std::optional(std::string(layer->second));
  }
  rest.remove_prefix(kBlocks.size());
  const size_t digits = rest.find_first_not_of("0123456789");
  if (digits == 0) {
    return std::nullopt;
  }
  const std::string block = "blocks." + std::string(rest.substr(0, digits));
  if (digits == rest.npos) {
    return block;
  }
  const auto layer = rest[digits] == '_' ? inner.find(rest.substr(digits + 1)) : inner.end();
  return layer == inner.end() ? std::nullopt
                              : std::optional(block + "." + std::string(layer->second));
}

// Removes the adapter's name, which a PEFT model in memory has: ".lora_A.default.weight". It
// contains no dot, because torch allows none in module names.
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

// The text after a prefix such as "lora_unet_", "lora_unet." or "lora_unet__"; nothing if there is
// no such prefix.
std::optional<string_view> behind_joining_prefix(string_view place) {
  const std::string text = joined(place);
  for (const string_view prefix : kJoiningPrefixes) {
    if (text.starts_with(prefix)) {
      place.remove_prefix(prefix.size());
      place.remove_prefix(place.starts_with('_') ? 1 : 0);
      return place;
    }
  }
  return std::nullopt;
}

struct Place {
  LoraFamily family;
  std::string layer;    // without any prefix
  std::string written;  // PEFT's name: the text after "base_model.model.", if the name has that
};

// A name may have several prefixes, and wrappers of training frameworks between them.
Place without_prefixes(string_view place) {
  Place result{LoraFamily::kPlain, std::string(place), ""};
  bool is_peft = false;
  for (int i = 0; i < kMostPrefixes; ++i) {
    const auto prefix = std::find_if(kPrefixes.begin(), kPrefixes.end(), [&](const auto& one) {
      return result.layer.starts_with(one.first);
    });
    const size_t before = result.layer.size();
    if (prefix != kPrefixes.end()) {
      result.layer.erase(0, prefix->first.size());
      result.family = result.family == LoraFamily::kPlain ? prefix->second : result.family;
      is_peft = is_peft || prefix->first == kPeftPrefix;
      if (prefix->first == kPeftPrefix) {
        result.written = result.layer;
      }
    } else {
      result.layer = strip_wrappers(result.layer);
    }
    if (result.layer.size() == before) {
      break;
    }
  }
  if (!is_peft) {
    result.written = result.layer;
  }
  return result;
}

}  // namespace

bool depends_on_noise(std::string_view parameter) {
  if (!parameter.starts_with("blocks.") || !parameter.ends_with(".weight")) {
    return false;
  }
  const std::string_view layer = parameter.substr(parameter.find('.', sizeof("blocks.") - 1) + 1);
  return layer.starts_with("self_attn.") || layer.starts_with("ffn.") ||
         layer == "cross_attn.q.weight" || layer == "cross_attn.o.weight";
}

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
    const string_view place(plain.data(), plain.size() - ending.size());
    if (const auto rest = behind_joining_prefix(place)) {
      const auto layer = known_layer(*rest);
      return layer
                 ? std::optional(LoraKey{LoraFamily::kKohya, part, canonical_layer(*layer), *layer})
                 : std::nullopt;
    }
    const auto [family, bare, written] = without_prefixes(place);
    const auto layer = known_layer(bare);
    return LoraKey{family, part, canonical_layer(layer.value_or(bare)), written};
  }
  return std::nullopt;
}

bool looks_like_lora(const Checkpoint& checkpoint) {
  return std::any_of(
      checkpoint.tensors().begin(), checkpoint.tensors().end(),
      [](const auto& entry) { return parse_lora_key(entry.first) || other_method(entry.first); });
}

const char* other_method(const std::string& name) {
  for (const auto& [mark, title] : kOtherMethods) {
    const size_t at = name.find("." + std::string(mark));
    if (at != name.npos) {
      return title;
    }
  }
  return nullptr;
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
