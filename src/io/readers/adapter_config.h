// How PEFT configures a LoRA, in adapter_config.json and in diffusers' metadata: what changes the
// sum.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

// Which layers a key of rank_pattern or alpha_pattern means. For PEFT it is a regular expression
// that must match a layer's name, or the end of it behind a dot; read is what PEFT and diffusers
// write of these: "^" in front and "$" behind, "." for any one character, "\" before a sign that
// means itself.
// Source: peft utils/other.py:get_pattern_key.
class LayerPattern {
 public:
  // Nothing for other regular expressions.
  static std::optional<LayerPattern> from_key(std::string_view key);

  bool fits(std::string_view layer) const;

 private:
  std::vector<std::optional<char>> signs_;  // nothing: any one character
  bool is_whole_ = false;                   // "^": the name and not its end
};

// Numbers of single layers, in the order of the file.
class LayerNumbers {
 public:
  void add(const std::string& key, const LayerPattern& pattern, double number);

  // That of the first pattern that fits.
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
  std::string origin;                 // for messages
  std::optional<double> alpha;        // lora_alpha
  std::optional<double> rank;         // r
  bool by_root_of_rank = false;       // use_rslora: alpha / sqrt(r)
  LayerNumbers alphas;                // alpha_pattern
  std::optional<LayerNumbers> ranks;  // rank_pattern; nothing where it cannot be read
  std::vector<std::string> unknown;   // keys, in quotes, of which PEFT 0.21 knows nothing

  // The factor of a layer's pair, whose matrices have this rank; nothing without an alpha for it.
  // Throws InputError when the configuration says another rank.
  std::optional<double> scale(const std::string& layer, int64_t pair_rank) const;
};

// `prefix` stands before every key: "" in adapter_config.json, "transformer." in most of diffusers'
// metadata. Throws InputError, beginning with `origin`, where the configuration asks for another
// sum than W + alpha / r · up · down, or where a value that counts has another type than PEFT gives
// it.
// Source: LoraConfig in peft tuners/lora/config.py, of version 0.21 and before.
AdapterConfig read_adapter_config(const nlohmann::ordered_json& source, const std::string& prefix,
                                  const std::string& origin);

// Whether read_adapter_config has a meaning for this key.
bool is_adapter_key(std::string_view key);

// A finite number, and a whole one from 1; else an InputError that begins with `what`.
double finite_number(const nlohmann::ordered_json& value, const std::string& what);
double rank_number(const nlohmann::ordered_json& value, const std::string& what);

using NumberReader = double (*)(const nlohmann::ordered_json& value, const std::string& what);

}  // namespace ospnext
