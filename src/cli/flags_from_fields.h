// Flags of a command, made from the field list of its config (core/fields.h).
//
// A field num_frames becomes the flag --num-frames. A flag that is not given keeps the config's
// value. Every command also has --help and --config FILE. The file contains the same names and
// values in JSON or YAML (cli/config_file.h); flags override it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "cli/config_file.h"
#include "core/fields.h"

namespace ospnext {

using Arguments = std::vector<std::string>;

struct Flag {
  enum class Kind { kText, kWhole, kReal, kSwitch };
  std::string name;  // of the field, with underscores
  Kind kind = Kind::kText;
  bool is_list = false;  // may be repeated; numbers may also be separated by commas
  std::string help;
  nlohmann::json default_value;
};

template <class Value>
Flag::Kind flag_kind() {
  if constexpr (std::is_same_v<Value, bool>) {
    return Flag::Kind::kSwitch;
  } else if constexpr (std::is_integral_v<Value>) {
    return Flag::Kind::kWhole;
  } else if constexpr (std::is_floating_point_v<Value>) {
    return Flag::Kind::kReal;
  } else {
    static_assert(std::is_same_v<Value, std::string>,
                  "a flag's field is text, a number or a switch");
    return Flag::Kind::kText;
  }
}

template <class Value>
struct FlagType {
  using Element = Value;
  static constexpr bool kIsList = false;
};
template <class Value>
struct FlagType<std::vector<Value>> {
  using Element = Value;
  static constexpr bool kIsList = true;
};

// The flags of a config. Its current values are the defaults that the help shows.
template <class Config>
std::vector<Flag> flags_of(const Config& config) {
  std::vector<Flag> flags;
  Config copy = config;
  copy.visit([&](const char* name, const auto& value, const char* help) {
    using Type = FlagType<std::decay_t<decltype(value)>>;
    flags.push_back(
        {name, flag_kind<typename Type::Element>(), Type::kIsList, help, nlohmann::json(value)});
  });
  return flags;
}

// Values that the user gave, not yet applied to a config.
struct GivenFlags {
  nlohmann::json flags = nlohmann::json::object();
  nlohmann::json config_file = nlohmann::json::object();
  std::string config_path;

  bool has(const std::string& name) const {
    return flags.contains(name) || config_file.contains(name);
  }
  // Sets the given values in `config`: first those of the file, then those of the flags.
  template <class Config>
  void apply(Config& config) const {
    fields_from_json(config, config_file, config_path);
    fields_from_json(config, flags, "command line");
  }
};

// Reads `arguments` (--flag=value and --flag value). Returns nothing if help was requested and
// printed to standard output. Throws InputError for an unknown flag (suggesting the likely one), a
// missing or malformed value, a flag given twice, or a broken --config file. If `translate` is
// given, it turns the content of the --config file into flags.
std::optional<GivenFlags> read_flags(const std::string& command, const std::string& summary,
                                     const std::vector<Flag>& flags, const Arguments& arguments,
                                     const ConfigTranslator& translate = {});

// The usual case: applies the given values to `config`. Returns false if help was printed.
template <class Config>
bool parse_flags(const std::string& command, const std::string& summary, const Arguments& arguments,
                 Config& config) {
  const auto given = read_flags(command, summary, flags_of(config), arguments);
  if (given) {
    given->apply(config);
  }
  return given.has_value();
}

// `text` with each field that stands in backquotes as its flag: "`num_frames`: found 0" becomes
// "--num-frames: found 0".
std::string with_flag_names(const std::string& text);

// The candidate closest to `word` in edit distance, or "" if none is close.
std::string likely_meant(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace ospnext
