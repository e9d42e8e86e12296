// PEFT's configuration of a LoRA, in adapter_config.json or diffusers' metadata: the keys that
// change the sum.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

// The layers that a key of rank_pattern or alpha_pattern selects. PEFT takes the key as a regular
// expression, which must match a layer's whole name or the end of it after a dot. Only the
// expressions that PEFT and diffusers write are supported: "^" at the start, "$" at the end, "."
// for any one character, and "\" before a punctuation character that stands for itself.
// Source: peft utils/other.py:get_pattern_key.
class LayerPattern {
 public:
  // Nothing for an unsupported regular expression.
  static std::optional<LayerPattern> from_key(std::string_view key);

  bool fits(std::string_view layer) const;

 private:
  std::vector<std::optional<char>> signs_;  // an empty entry matches any one character
  bool is_whole_ = false;                   // "^": matches whole names only
};

// Patterns of layers with a number each, in the order of the file.
class LayerNumbers {
 public:
  void add(const std::string& key, const LayerPattern& pattern, double number);

  // The number of the first pattern that fits; nothing if none fits.
  std::optional<double> of(std::string_view layer) const;

  // The keys, in quotes, that fit none of the layers.
  std::vector<std::string> keys_without(const std::vector<std::string>& layers) const;

 private:
  struct Entry {
    std::string key;
    LayerPattern pattern;
    double number;
  };
  std::vector<Entry> entries_;
};

struct AdapterConfig {
  std::string origin;                 // file or metadata, for messages
  std::optional<double> alpha;        // lora_alpha
  std::optional<double> rank;         // r
  bool by_root_of_rank = false;       // use_rslora: alpha / sqrt(r)
  LayerNumbers alphas;                // alpha_pattern
  std::optional<LayerNumbers> ranks;  // rank_pattern; nothing if a key is not supported
  // The LoRA acts on latents with this much noise or more. PEFT has no such key and ignores it.
  double lowest_noise_level = 0;
  std::vector<std::string> unknown;  // keys, in quotes, that PEFT 0.21 does not have

  // The factor alpha / r, or alpha / sqrt(r), of a layer; r is `pair_rank`, the rank of its two
  // matrices. Nothing if the configuration has no alpha for the layer. Throws InputError if the
  // configuration has an alpha for the layer but gives another rank.
  std::optional<double> scale(const std::string& layer, int64_t pair_rank) const;
};

// Reads the keys that begin with `prefix`: "" for adapter_config.json, "transformer." for most of
// diffusers' metadata. Throws InputError, beginning with `origin`, if the configuration needs
// another sum than W + alpha / r · up · down, or if a value that is read has another type than in
// PEFT.
// Source: LoraConfig in peft tuners/lora/config.py, of version 0.21 and before.
AdapterConfig read_adapter_config(const nlohmann::ordered_json& source, const std::string& prefix,
                                  const std::string& origin);

// Whether the key is one of PEFT's LoraConfig.
bool is_adapter_key(std::string_view key);

// The value as a finite number; rank_number: as a whole number from 1 to 1e9. Throws InputError,
// beginning with `what`, for other values.
double finite_number(const nlohmann::ordered_json& value, const std::string& what);
double rank_number(const nlohmann::ordered_json& value, const std::string& what);

using NumberReader = double (*)(const nlohmann::ordered_json& value, const std::string& what);

}  // namespace ospnext
