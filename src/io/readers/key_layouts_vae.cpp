// Names of the VAE.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/readers/key_layouts.h"
#include "io/readers/key_rewriting.h"

namespace ospnext {
namespace {

// Of encoder or decoder, behind "encoder." or "decoder.".
constexpr std::array kCoderRules{
    PrefixRule{"conv_in.", "conv1."},
    PrefixRule{"norm_out.", "head.0."},
    PrefixRule{"conv_out.", "head.2."},
};

constexpr std::array kOuterRules{
    PrefixRule{"quant_conv.", "conv1."},
    PrefixRule{"post_quant_conv.", "conv2."},
};

// Of a residual block; resampling and attention have the same names in both layouts.
constexpr std::array kResidualRules{
    PrefixRule{"norm1.", "residual.0."},       PrefixRule{"conv1.", "residual.2."},
    PrefixRule{"norm2.", "residual.3."},       PrefixRule{"conv2.", "residual.6."},
    PrefixRule{"conv_shortcut.", "shortcut."},
};

// Name fragments that only the VAE of Wan2.2 has, in its two layouts.
constexpr std::array kWan22Signs{"samples.0.upsamples.", "samples.0.downsamples.", ".upsampler.",
                                 ".downsampler."};

constexpr const char* kUpBlocks = "decoder.up_blocks.";

// "<place><number>.<inner name, translated>"
std::string numbered(std::string_view place, int64_t number, std::string_view inner) {
  const auto renamed = replace_prefix(inner, kResidualRules);
  return std::string(place) + std::to_string(number) + "." + renamed.value_or(std::string(inner));
}

// What stands behind "encoder." or "decoder.", but for up_blocks.
std::string canonical_coder_key(std::string_view name) {
  if (const auto down = split_number(name, "down_blocks.")) {
    return numbered("downsamples.", down->number, down->rest);
  }
  // the middle alternates: residual block, attention, residual block, ...
  if (const auto resnet = split_number(name, "mid_block.resnets.")) {
    return numbered("middle.", 2 * resnet->number, resnet->rest);
  }
  if (const auto attention = split_number(name, "mid_block.attentions.")) {
    return numbered("middle.", 2 * attention->number + 1, attention->rest);
  }
  return replace_prefix(name, kCoderRules).value_or(std::string(name));
}

}  // namespace

UpBlockOffsets up_block_offsets(const std::vector<std::string>& names) {
  std::map<int64_t, int64_t> resnets;  // of each block
  std::map<int64_t, int64_t> upsamplers;
  for (const std::string& name : names) {
    const std::string bare = strip_wrappers(name);
    const auto block = split_number(bare, kUpBlocks);
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
  const std::string bare = strip_wrappers(name);
  if (const auto block = split_number(bare, kUpBlocks); block && offsets.contains(block->number)) {
    const int64_t first = offsets.at(block->number);
    if (const auto resnet = split_number(block->rest, "resnets.")) {
      return numbered("decoder.upsamples.", first + resnet->number, resnet->rest);
    }
    if (const auto upsampler = split_number(block->rest, "upsamplers.")) {
      const auto next = offsets.upper_bound(block->number);  // the upsampler ends the block
      if (next != offsets.end()) {
        return numbered("decoder.upsamples.", next->second - 1, upsampler->rest);
      }
    }
    return bare;
  }
  for (const char* coder : {"encoder.", "decoder."}) {
    if (bare.starts_with(coder)) {
      return coder + canonical_coder_key(std::string_view(bare).substr(8));
    }
  }
  return replace_prefix(bare, kOuterRules).value_or(bare);
}

KeyMap vae_keys(const Checkpoint& checkpoint) {
  refuse_scaled_fp8(checkpoint);
  const auto offsets = up_block_offsets(tensor_names(checkpoint));
  const KeyMap keys = [offsets](const std::string& name) {
    return canonical_vae_key(name, offsets);
  };
  bool recognised = false;
  for (const auto& entry : checkpoint.tensors()) {
    const std::string name = keys(entry.first);
    if (std::any_of(kWan22Signs.begin(), kWan22Signs.end(),
                    [&](const char* sign) { return name.find(sign) != name.npos; })) {
      throw InputError(checkpoint.path() +
                       ": expected the VAE of Wan2.1, found that of Wan2.2 (tensor " +
                       quoted(entry.first) + ")");
    }
    recognised = recognised || name == "decoder.conv1.weight" || name == "encoder.conv1.weight" ||
                 name == "decoder.middle.0.residual.0.gamma";
  }
  if (!recognised) {
    refuse_other_model(checkpoint, "a Wan VAE");
  }
  return keys;
}

}  // namespace ospnext
