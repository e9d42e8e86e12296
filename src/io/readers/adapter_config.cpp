// The keys of PEFT's LoraConfig, and the effect of each on the sum W + alpha / r · up · down.
#include "io/readers/adapter_config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

using nlohmann::ordered_json;
using std::string_view;

enum class Effect {
  kNone,       // tells which layers were trained, or how
  kRead,       // read_adapter_config() reads it
  kMustBeOff,  // changes the sum, unless it is null, false or empty
};

struct KnownKey {
  string_view name;
  Effect effect;
  string_view reason = "";  // for kMustBeOff: its effect, for the message
};

constexpr std::array kKnownKeys{
    KnownKey{"peft_type", Effect::kRead},
    KnownKey{"r", Effect::kRead},
    KnownKey{"lora_alpha", Effect::kRead},
    KnownKey{"rank_pattern", Effect::kRead},
    KnownKey{"alpha_pattern", Effect::kRead},
    KnownKey{"lowest_noise_level", Effect::kRead},  // our own
    KnownKey{"use_rslora", Effect::kRead},
    KnownKey{"lora_bias", Effect::kRead},
    KnownKey{"bias", Effect::kRead},
    KnownKey{"init_lora_weights", Effect::kRead},
    KnownKey{"use_dora", Effect::kMustBeOff, "divides by norms of the merged weights"},
    KnownKey{"use_qalora", Effect::kMustBeOff, "pools the inputs of layers"},
    KnownKey{"use_bdlora", Effect::kMustBeOff, "has block-diagonal matrices"},
    KnownKey{"kasa_config", Effect::kMustBeOff, "belongs to weights that PEFT has truncated"},
    KnownKey{"arrow_config", Effect::kMustBeOff, "mixes several adapters for each token"},
    KnownKey{"alora_invocation_tokens", Effect::kMustBeOff, "changes some tokens only"},
    KnownKey{"fan_in_fan_out", Effect::kMustBeOff, "has transposed weights"},
    KnownKey{"layer_replication", Effect::kMustBeOff, "belongs to a model with repeated blocks"},
    KnownKey{"modules_to_save", Effect::kMustBeOff, "replaces whole layers"},
    KnownKey{"target_parameters", Effect::kMustBeOff, "changes parameters that are no layers"},
    KnownKey{"trainable_token_indices", Effect::kMustBeOff, "replaces rows of an embedding"},
    KnownKey{"enable_lora", Effect::kMustBeOff, "has matrices for parts of a layer"},  // before 0.3
    KnownKey{"merge_weights", Effect::kNone},                                          // before 0.3
    KnownKey{"task_type", Effect::kNone},
    KnownKey{"auto_mapping", Effect::kNone},
    KnownKey{"peft_version", Effect::kNone},
    KnownKey{"base_model_name_or_path", Effect::kNone},
    KnownKey{"revision", Effect::kNone},
    KnownKey{"inference_mode", Effect::kNone},
    KnownKey{"runtime_config", Effect::kNone},
    KnownKey{"target_modules", Effect::kNone},
    KnownKey{"exclude_modules", Effect::kNone},
    KnownKey{"layers_to_transform", Effect::kNone},
    KnownKey{"layers_pattern", Effect::kNone},
    KnownKey{"lora_dropout", Effect::kNone},
    KnownKey{"ensure_weight_tying", Effect::kNone},
    KnownKey{"megatron_config", Effect::kNone},
    KnownKey{"megatron_core", Effect::kNone},
    KnownKey{"qalora_group_size", Effect::kNone},  // for use_qalora
    // parameters of the initialisation that init_lora_weights names
    KnownKey{"loftq_config", Effect::kNone},
    KnownKey{"eva_config", Effect::kNone},
    KnownKey{"corda_config", Effect::kNone},
    KnownKey{"lora_ga_config", Effect::kNone},
    // change gradients or add noise during training; the trained adapter uses the plain sum
    KnownKey{"velora_config", Effect::kNone},
    KnownKey{"monteclora_config", Effect::kNone},
};

const KnownKey* known_key(string_view name) {
  const auto found = std::find_if(kKnownKeys.begin(), kKnownKeys.end(),
                                  [&](const KnownKey& key) { return key.name == name; });
  return found == kKnownKeys.end() ? nullptr : &*found;
}

bool is_off(const ordered_json& value) {
  return value.is_null() || value == ordered_json(false) ||
         (value.is_structured() && value.empty());
}

bool flag(const ordered_json& value, const std::string& what) {
  if (value.is_null()) {
    return false;
  }
  if (!value.is_boolean()) {
    throw InputError(what + ": found " + shown(value) + ", expected true or false");
  }
  return value.get<bool>();
}

// Accepts initialisations that do not change the model's weights. The others subtract the initial
// up · down from the weights, and LoftQ quantizes them: such an adapter fits the changed weights
// only.
// Source: peft tuners/lora/layer.py:update_layer.
void check_initialization(const ordered_json& value, const std::string& what) {
  constexpr std::array<string_view, 4> kOnPlainWeights{"gaussian", "eva", "orthogonal", "mica"};
  constexpr std::array<string_view, 5> kOnChangedWeights{"pissa", "olora", "corda", "loftq",
                                                         "lora_ga"};
  if (value.is_null() || value.is_boolean()) {
    return;
  }
  std::string name = value.is_string() ? value.get<std::string>() : "";
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  for (const string_view method : kOnChangedWeights) {
    if (name.starts_with(method)) {  // also "pissa_niter_16"
      throw InputError(
          what + ": found " + shown(value) +
          ", which belongs to changed weights of the model, expected an adapter of the "
          "plain ones (save_pretrained of PEFT makes one with "
          "path_initial_model_for_weight_conversion)");
    }
  }
  if (std::find(kOnPlainWeights.begin(), kOnPlainWeights.end(), name) == kOnPlainWeights.end()) {
    throw InputError(what + ": found " + shown(value) +
                     ", expected true, false, \"gaussian\", \"eva\", \"orthogonal\" or \"mica\"");
  }
}

// Reads the object of alpha_pattern or rank_pattern. If a key is an unsupported regular
// expression: throws if `needed`, otherwise returns nothing.
std::optional<LayerNumbers> read_pattern(const ordered_json& patterns, const std::string& what,
                                         NumberReader number, bool needed) {
  LayerNumbers numbers;
  if (patterns.is_null()) {
    return numbers;
  }
  if (!patterns.is_object()) {
    throw InputError(what + ": found " + shown(patterns) + ", expected an object");
  }
  bool all_read = true;
  for (const auto& [key, value] : patterns.items()) {
    const auto pattern = LayerPattern::from_key(key);
    if (!pattern && needed) {
      throw InputError(what + ": found the regular expression " + quoted(key) +
                       ", expected names of layers or their ends");
    }
    const double one = number(value, what + " " + quoted(key));
    if (pattern) {
      numbers.add(key, *pattern, one);
    }
    all_read = all_read && pattern;
  }
  return all_read ? std::optional(numbers) : std::nullopt;
}

void check_known(const KnownKey& key, const ordered_json& value, const std::string& what) {
  if (key.effect == Effect::kMustBeOff && !is_off(value)) {
    throw InputError(what + ": found " + shown(value) + ", expected a plain LoRA: one with " +
                     std::string(key.name) + " " + std::string(key.reason));
  }
}

}  // namespace

std::optional<LayerPattern> LayerPattern::from_key(string_view key) {
  LayerPattern pattern;
  pattern.is_whole_ = key.starts_with('^');
  key.remove_prefix(pattern.is_whole_ ? 1 : 0);
  while (!key.empty()) {
    const char sign = key.front();
    key.remove_prefix(1);
    if (sign == '\\') {
      if (key.empty() || !std::ispunct(static_cast<unsigned char>(key.front()))) {
        return std::nullopt;  // such as "\d"
      }
      pattern.signs_.emplace_back(key.front());
      key.remove_prefix(1);
    } else if (sign == '$' && key.empty()) {
      break;
    } else if (string_view("^$*+?()[]{}|").find(sign) != string_view::npos) {
      return std::nullopt;
    } else {
      pattern.signs_.push_back(sign == '.' ? std::nullopt : std::optional(sign));
    }
  }
  return pattern;
}

bool LayerPattern::fits(string_view layer) const {
  if (layer.size() < signs_.size()) {
    return false;
  }
  const size_t begin = layer.size() - signs_.size();
  if (begin > 0 && (is_whole_ || layer[begin - 1] != '.')) {
    return false;
  }
  return std::equal(signs_.begin(), signs_.end(), layer.begin() + static_cast<ptrdiff_t>(begin),
                    [](const std::optional<char>& sign, char c) { return !sign || *sign == c; });
}

void LayerNumbers::add(const std::string& key, const LayerPattern& pattern, double number) {
  entries_.push_back({key, pattern, number});
}

std::optional<double> LayerNumbers::of(string_view layer) const {
  for (const Entry& entry : entries_) {
    if (entry.pattern.fits(layer)) {
      return entry.number;
    }
  }
  return std::nullopt;
}

std::vector<std::string> LayerNumbers::keys_without(const std::vector<std::string>& layers) const {
  std::vector<std::string> keys;
  for (const Entry& entry : entries_) {
    if (std::none_of(layers.begin(), layers.end(),
                     [&](const std::string& layer) { return entry.pattern.fits(layer); })) {
      keys.push_back(quoted(entry.key));
    }
  }
  return keys;
}

std::optional<double> AdapterConfig::scale(const std::string& layer, int64_t pair_rank) const {
  const auto own_alpha = alphas.of(layer);
  const std::optional<double> value = own_alpha ? own_alpha : alpha;
  if (!value) {
    return std::nullopt;
  }
  const auto r = static_cast<double>(pair_rank);
  if (ranks) {
    const auto own_rank = ranks->of(layer);
    const double expected = own_rank ? *own_rank : rank.value_or(r);
    if (expected != r) {
      throw InputError(origin + ": " + (own_rank ? "rank_pattern" : "r") + ": found " +
                       std::to_string(static_cast<int64_t>(expected)) + ", expected " +
                       std::to_string(pair_rank) + ", the rank of layer " + quoted(layer));
    }
  }
  return *value / (by_root_of_rank ? std::sqrt(r) : r);
}

AdapterConfig read_adapter_config(const ordered_json& source, const std::string& prefix,
                                  const std::string& origin) {
  if (!source.is_object()) {
    throw InputError(origin + ": expected a JSON object, found " + source.type_name());
  }
  ordered_json values = ordered_json::object();
  AdapterConfig config;
  config.origin = origin;
  for (const auto& [name, value] : source.items()) {
    if (!name.starts_with(prefix)) {
      continue;
    }
    const std::string key = name.substr(prefix.size());
    if (const KnownKey* known = known_key(key)) {
      check_known(*known, value, origin + ": " + key);
      values[key] = value;
    } else {
      config.unknown.push_back(quoted(key));
    }
  }
  const auto value_of = [&](const char* key) { return values.value(key, ordered_json()); };
  const auto called = [&](const char* key) { return origin + ": " + key; };
  if (const auto type = value_of("peft_type"); !type.is_null() && type != "LORA") {
    throw InputError(called("peft_type") + ": found " + shown(type) + ", expected \"LORA\"");
  }
  if (const auto bias = value_of("bias"); !bias.is_null() && bias != "none") {
    throw InputError(called("bias") + ": found " + shown(bias) +
                     ", expected \"none\": whole biases cannot be replaced");
  }
  check_initialization(value_of("init_lora_weights"), called("init_lora_weights"));
  flag(value_of("lora_bias"), called("lora_bias"));  // its tensors say what it adds
  config.by_root_of_rank = flag(value_of("use_rslora"), called("use_rslora"));
  if (const auto alpha = value_of("lora_alpha"); !alpha.is_null()) {
    config.alpha = finite_number(alpha, called("lora_alpha"));
  }
  if (const auto rank = value_of("r"); !rank.is_null()) {
    config.rank = rank_number(rank, called("r"));
  }
  if (const auto level = value_of("lowest_noise_level"); !level.is_null()) {
    config.lowest_noise_level = finite_number(level, called("lowest_noise_level"));
    if (!(config.lowest_noise_level >= 0 && config.lowest_noise_level <= 1)) {
      throw InputError(called("lowest_noise_level") + ": found " + shown(level) +
                       ", expected a number from 0 to 1");
    }
  }
  config.alphas =
      *read_pattern(value_of("alpha_pattern"), called("alpha_pattern"), finite_number, true);
  config.ranks = read_pattern(value_of("rank_pattern"), called("rank_pattern"), rank_number, false);
  return config;
}

bool is_adapter_key(string_view key) {
  return known_key(key) != nullptr;
}

double finite_number(const ordered_json& value, const std::string& what) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    throw InputError(what + ": found " + shown(value) + ", expected a finite number");
  }
  return value.get<double>();
}

double rank_number(const ordered_json& value, const std::string& what) {
  constexpr double kLargest = 1e9;
  const double number = finite_number(value, what);
  if (!(number >= 1 && number <= kLargest) || number != std::floor(number)) {
    throw InputError(what + ": found " + shown(value) + ", expected a whole number from 1");
  }
  return number;
}

}  // namespace ospnext
