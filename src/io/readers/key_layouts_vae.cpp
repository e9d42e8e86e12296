// Translates tensor names of the VAE.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/readers/key_layouts.h"
#include "io/readers/key_rewriting.h"
#include "io/readers/weight_companions.h"

namespace ospnext {
namespace {

// For names after "encoder." or "decoder.".
constexpr std::array kCoderRules{
    PrefixRule{"conv_in.", "conv1."},
    PrefixRule{"norm_out.", "head.0."},
    PrefixRule{"conv_out.", "head.2."},
};

constexpr std::array kOuterRules{
    PrefixRule{"quant_conv.", "conv1."},
    PrefixRule{"post_quant_conv.", "conv2."},
};

// For names inside residual blocks. Resampling and attention have the same names in both layouts.
constexpr std::array kResidualRules{
    PrefixRule{"norm1.", "residual.0."},       PrefixRule{"conv1.", "residual.2."},
    PrefixRule{"norm2.", "residual.3."},       PrefixRule{"conv2.", "residual.6."},
    PrefixRule{"conv_shortcut.", "shortcut."},
};

// Parts of names that occur only in the VAE of Wan2.2, in its two layouts.
constexpr std::array kWan22Signs{"samples.0.upsamples.", "samples.0.downsamples.", ".upsampler.",
                                 ".downsampler."};

constexpr const char* kUpBlocks = "decoder.up_blocks.";
constexpr const char* kUpsamples = "decoder.upsamples.";

// "<place><number>.<inner>", with `inner` translated to our names.
std::string numbered(std::string_view place, int64_t number, std::string_view inner) {
  const auto renamed = replace_prefix(inner, kResidualRules);
  return std::string(place) + std::to_string(number) + "." + renamed.value_or(std::string(inner));
}

// Translates a diffusers name after "encoder." or "decoder.", except in up_blocks.
std::string canonical_coder_key(std::string_view name) {
  if (const auto down = split_number(name, "down_blocks.")) {
    return numbered("downsamples.", down->number, down->rest);
  }
  // The middle alternates: residual block, attention, residual block, ...
  if (const auto resnet = split_number(name, "mid_block.resnets.")) {
    return numbered("middle.", 2 * resnet->number, resnet->rest);
  }
  if (const auto attention = split_number(name, "mid_block.attentions.")) {
    return numbered("middle.", 2 * attention->number + 1, attention->rest);
  }
  return replace_prefix(name, kCoderRules).value_or(std::string(name));
}

// "<place><inner>", with `inner` translated to diffusers' names.
std::string restored(const std::string& place, std::string_view inner) {
  return place + restore_prefix(inner, kResidualRules).value_or(std::string(inner));
}

// Translates our name after "encoder." or "decoder." to diffusers' name, except in upsamples.
std::string diffusers_coder_key(std::string_view name) {
  if (const auto down = split_number(name, "downsamples.")) {
    return restored("down_blocks." + std::to_string(down->number) + ".", down->rest);
  }
  if (const auto middle = split_number(name, "middle.")) {
    const char* kind = middle->number % 2 == 0 ? "resnets." : "attentions.";
    return restored("mid_block." + (kind + std::to_string(middle->number / 2)) + ".", middle->rest);
  }
  return restore_prefix(name, kCoderRules).value_or(std::string(name));
}

// Maps each module's index in the decoder's flat list to its place in diffusers' layout, such as
// "decoder.up_blocks.1.resnets.0.".
std::map<int64_t, std::string> up_block_places(const std::vector<std::string>& names) {
  std::map<int64_t, bool> is_upsampler;
  for (const std::string& name : names) {
    if (const auto layer = split_number(name, kUpsamples)) {
      is_upsampler[layer->number] =
          layer->rest.starts_with("resample.") || layer->rest.starts_with("time_conv.");
    }
  }
  std::map<int64_t, std::string> places;
  int64_t block = 0;
  int64_t resnet = 0;
  for (const auto& [number, ends_block] : is_upsampler) {
    const std::string place = kUpBlocks + std::to_string(block);
    places[number] =
        place + (ends_block ? ".upsamplers.0." : ".resnets." + std::to_string(resnet) + ".");
    resnet = ends_block ? 0 : resnet + 1;
    block += ends_block ? 1 : 0;
  }
  return places;
}

std::string translate_vae_key(std::string_view bare, const UpBlockOffsets& offsets) {
  if (const auto block = split_number(bare, kUpBlocks); block && offsets.contains(block->number)) {
    const int64_t first = offsets.at(block->number);
    if (const auto resnet = split_number(block->rest, "resnets.")) {
      return numbered(kUpsamples, first + resnet->number, resnet->rest);
    }
    if (const auto upsampler = split_number(block->rest, "upsamplers.")) {
      const auto next = offsets.upper_bound(block->number);  // the upsampler ends the block
      if (next != offsets.end()) {
        return numbered(kUpsamples, next->second - 1, upsampler->rest);
      }
    }
    return std::string(bare);
  }
  for (const char* coder : {"encoder.", "decoder."}) {
    if (bare.starts_with(coder)) {
      return coder + canonical_coder_key(bare.substr(8));
    }
  }
  return replace_prefix(bare, kOuterRules).value_or(std::string(bare));
}

constexpr std::array<std::string_view, 6> kVaeRoots{"encoder.", "decoder.",    "conv1.",
                                                    "conv2.",   "quant_conv.", "post_quant_conv."};
constexpr std::array<std::string_view, 3> kVaeSigns{"decoder.conv1.weight", "encoder.conv1.weight",
                                                    "decoder.middle.0.residual.0.gamma"};
constexpr ModelSigns kVae{"a Wan VAE", kVaeRoots, kVaeSigns,
                          [](std::string_view bare) { return translate_vae_key(bare, {}); }};

}  // namespace

UpBlockOffsets up_block_offsets(const std::vector<std::string>& names) {
  std::map<int64_t, int64_t> resnets;  // number of residual blocks of each up_block
  std::map<int64_t, int64_t> upsamplers;
  for (const std::string& name : names) {
    const auto block = split_number(name, kUpBlocks);
    if (!block) {
      continue;
    }
    resnets[block->number];
    if (const auto resnet = split_number(block->rest, "resnets.")) {
      resnets[block->number] = std::max(resnets[block->number], resnet->number + 1);
    } else if (const auto upsampler = split_number(block->rest, "upsamplers.")) {
      upsamplers[block->number] = std::max(upsamplers[block->number], upsampler->number + 1);
    }
  }
  UpBlockOffsets offsets;
  int64_t next = 0;
  for (const auto& [block, count] : resnets) {
    offsets[block] = next;
    next += count + upsamplers[block];
  }
  return offsets;
}

std::string canonical_vae_key(const std::string& name, const UpBlockOffsets& offsets) {
  return is_weight_companion(name) ? "" : translate_vae_key(strip_wrappers(name), offsets);
}

KeyMap diffusers_vae_keys(const std::vector<std::string>& names) {
  return [places = up_block_places(names)](const std::string& name) {
    if (const auto up = split_number(name, kUpsamples); up && places.contains(up->number)) {
      return restored(places.at(up->number), up->rest);
    }
    for (const char* coder : {"encoder.", "decoder."}) {
      if (name.starts_with(coder)) {
        return coder + diffusers_coder_key(std::string_view(name).substr(8));
      }
    }
    return restore_prefix(name, kOuterRules).value_or(name);
  };
}

KeyMap vae_keys(const Checkpoint& checkpoint) {
  const std::string wrapper = find_wrapper(checkpoint, kVae);
  std::vector<std::string> bare_names;
  for (const auto& entry : checkpoint.tensors()) {
    const auto bare = unwrapped(entry.first, wrapper);
    if (!bare) {
      continue;
    }
    bare_names.push_back(*bare);
    const std::string key = translate_vae_key(*bare, {});
    if (std::any_of(kWan22Signs.begin(), kWan22Signs.end(),
                    [&](const char* sign) { return key.find(sign) != key.npos; })) {
      throw InputError(checkpoint.path() +
                       ": expected the VAE of Wan2.1, found that of Wan2.2 (tensor " +
                       quoted(entry.first) + ")");
    }
  }
  return [wrapper, offsets = up_block_offsets(bare_names)](const std::string& name) {
    const auto bare = unwrapped(name, wrapper);
    return is_weight_companion(name) ? "" : bare ? translate_vae_key(*bare, offsets) : name;
  };
}

}  // namespace ospnext
