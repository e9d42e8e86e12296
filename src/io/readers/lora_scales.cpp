// Finds alpha in configurations and metadata.
#include "io/readers/lora_scales.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <functional>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/lora_keys.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kDiffusersMetadata = "lora_adapter_metadata";
constexpr const char* kDiffusersPrefix = "transformer.";

// Kohya's scripts write lora_down, lora_up and alpha tensors, and these metadata. If a file has
// the same metadata and lora_A tensors, a converter has renamed the tensors and multiplied them by
// alpha / r.
// Source: musubi-tuner convert_lora.py:convert_to_diffusers.
constexpr const char* kKohyaPrefix = "ss_";
constexpr const char* kKohyaModule = "ss_network_module";
constexpr const char* kConvertedSpelling = ".lora_A.";

// Metadata keys with one number for all layers.
constexpr std::array kAlphaNames{"lora_alpha", "alpha", "network_alpha", "ss_network_alpha"};
constexpr std::array kRankNames{"r", "rank", "lora_rank", "network_dim", "ss_network_dim"};

// The JSON value of a metadata text. Most texts are Python literals: "16", "True", "None", "{}".
ordered_json value_of_text(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  if (lower.empty() || lower == "none" || lower == "null") {
    return nullptr;
  }
  if (lower == "true" || lower == "false") {
    return lower == "true";
  }
  try {
    return parse_ordered_json(text, "", 8);
  } catch (const InputError&) {
    return text;
  }
}

// The configuration in diffusers' metadata. Its keys have a prefix, except those that
// save_lora_adapter writes.
AdapterConfig read_diffusers_metadata(const std::string& text, const std::string& origin) {
  const ordered_json source = parse_ordered_json(text, origin, 8);
  bool has_prefix = false;
  for (const auto& [key, value] : source.items()) {
    has_prefix = has_prefix || key.starts_with(kDiffusersPrefix);
  }
  return read_adapter_config(source, has_prefix ? kDiffusersPrefix : "", origin);
}

// The configuration from single metadata keys in the header, without alpha and rank: these may
// have several names (kAlphaNames, kRankNames).
AdapterConfig read_single_metadata(const Checkpoint& checkpoint) {
  ordered_json source = ordered_json::object();
  for (const auto& [key, text] : checkpoint.metadata()) {
    if (is_adapter_key(key) && key != "r" && key != "lora_alpha") {
      source[key] = value_of_text(text);
    }
  }
  return read_adapter_config(source, "", checkpoint.path() + ": metadata");
}

// The number in the metadata of these names, if `counts(name)`. Throws when two of them differ.
template <size_t N>
std::optional<double> common_number(const Checkpoint& checkpoint,
                                    const std::array<const char*, N>& names, NumberReader read,
                                    const std::function<bool(const std::string&)>& counts) {
  std::optional<double> number;
  std::string first;
  for (const std::string name : names) {
    const auto found = checkpoint.metadata().find(name);
    if (found == checkpoint.metadata().end() || !counts(name)) {
      continue;
    }
    const ordered_json value = value_of_text(found->second);
    if (value.is_null()) {
      continue;
    }
    const std::string what = checkpoint.path() + ": metadata " + name;
    const double one = read(value, what);
    if (number && *number != one) {
      throw InputError(what + ": found " + shown(value) + ", expected the number of " + first);
    }
    first = name;
    number = one;
  }
  return number;
}

// A LoRA in the same folder as `weights`, in another file.
std::optional<fs::path> other_lora_beside(const fs::path& weights) {
  const fs::path folder = weights.has_parent_path() ? weights.parent_path() : ".";
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    const fs::path& file = entry->path();
    if (file.filename() == weights.filename() || !is_tensor_file(file) ||
        !fs::is_regular_file(file, ignored)) {
      continue;
    }
    try {
      if (looks_like_lora(open_checkpoint(file))) {
        return file;
      }
    } catch (const InputError&) {  // a file of another kind, such as an optimizer's state
    }
  }
  return std::nullopt;
}

}  // namespace

LoraScales::LoraScales(const fs::path& weights, const Checkpoint& checkpoint)
    : checkpoint_(checkpoint), single_(read_single_metadata(checkpoint)) {
  const auto metadata = checkpoint.metadata().find(kDiffusersMetadata);
  if (metadata != checkpoint.metadata().end()) {
    configs_.push_back(read_diffusers_metadata(
        metadata->second, checkpoint.path() + ": metadata " + kDiffusersMetadata));
  }
  add_config_file(weights);
}

void LoraScales::add_config_file(const fs::path& weights) {
  const fs::path file = weights.parent_path() / kConfigFile;
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) {
    return;
  }
  if (weights.stem() != "adapter_model") {
    if (const auto other = other_lora_beside(weights)) {
      remarks_.push_back(checkpoint_.path() + ": " + kConfigFile + " is not read, because " +
                         quoted(other->filename().string()) + " beside it is a LoRA, too");
      return;
    }
  }
  configs_.push_back(read_adapter_config(read_ordered_json_file(file), "", file.string()));
}

void LoraScales::add_single_numbers() {
  const TensorMap& tensors = checkpoint_.tensors();
  kohyas_count_ = !checkpoint_.metadata().contains(kKohyaModule) ||
                  std::none_of(tensors.begin(), tensors.end(), [](const auto& entry) {
                    return entry.first.find(kConvertedSpelling) != std::string::npos;
                  });
  const auto counts = [&](const std::string& name) {
    return kohyas_count_ || !name.starts_with(kKohyaPrefix);
  };
  single_.alpha = common_number(checkpoint_, kAlphaNames, finite_number, counts);
  if (single_.alpha) {
    single_.rank = common_number(checkpoint_, kRankNames, rank_number, counts);
  }
  configs_.push_back(single_);
  single_is_read_ = true;
}

double LoraScales::scale(const std::string& layer, int64_t rank) {
  for (const AdapterConfig& config : configs_) {
    if (const auto scale = config.scale(layer, rank)) {
      return *scale;
    }
  }
  if (!single_is_read_) {
    add_single_numbers();
    return scale(layer, rank);
  }
  ++without_alpha_;
  return 1;
}

double LoraScales::lowest_noise_level() const {
  double level = single_.lowest_noise_level;
  for (const AdapterConfig& config : configs_) {
    level = std::max(level, config.lowest_noise_level);
  }
  return level;
}

std::vector<std::string> LoraScales::remarks(const std::vector<std::string>& layers) const {
  std::vector<std::string> lines = remarks_;
  const auto name = [&](const std::string& start, const std::vector<std::string>& keys,
                        const char* end) {
    if (!keys.empty()) {
      lines.push_back(start + list_text(keys) + end);
    }
  };
  for (const AdapterConfig& config : configs_) {
    name(config.origin + ": left out keys that are not known: ", config.unknown, "");
    name(config.origin + ": alpha_pattern: ", config.alphas.keys_without(layers),
         " fit no layer of the LoRA");
    name(config.origin + ": rank_pattern: ",
         config.ranks ? config.ranks->keys_without(layers) : std::vector<std::string>{},
         " fit no layer of the LoRA");
  }
  if (without_alpha_ > 0) {
    lines.push_back(checkpoint_.path() + ": found no alpha for " + std::to_string(without_alpha_) +
                    " of " + std::to_string(layers.size()) + " layers, scale 1 is taken for them" +
                    (kohyas_count_ ? ""
                                   : " (ss_network_alpha does not count beside lora_A: who renames "
                                     "kohya's tensors multiplies it in)"));
  }
  return lines;
}

}  // namespace ospnext
