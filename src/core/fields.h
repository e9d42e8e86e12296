// The field list of a config struct, from which flags, JSON, help and printing are made.
//
// A config struct has `template <class Visitor> void visit(Visitor&& field)`, which calls
// `field(name, value, help)` once for each member. Names are snake_case; the flag of a member is
// its name with dashes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"

namespace ospnext {

// Field list -> JSON object.
template <class Config>
nlohmann::json fields_to_json(const Config& config) {
  nlohmann::json json = nlohmann::json::object();
  Config copy = config;
  copy.visit([&](const char* name, const auto& value, const char*) { json[name] = value; });
  return json;
}

// Whether a JSON value is one of a field's type: a whole number that it can hold, a number, ...; of
// a list, each. What is none of these is left to the conversion.
template <class Value>
struct JsonFit {
  static bool of(const nlohmann::json& json) {
    if constexpr (std::is_same_v<Value, bool>) {
      return json.is_boolean();
    } else if constexpr (std::is_integral_v<Value>) {
      return json.is_number_unsigned()
                 ? std::in_range<Value>(json.get<uint64_t>())
                 : json.is_number_integer() && std::in_range<Value>(json.get<int64_t>());
    } else {
      return !std::is_floating_point_v<Value> || json.is_number();
    }
  }
};
template <class Element>
struct JsonFit<std::vector<Element>> {
  static bool of(const nlohmann::json& json) {
    return json.is_array() && std::all_of(json.begin(), json.end(), JsonFit<Element>::of);
  }
};

// Sets the members that `json` names; a member it does not name keeps its value. Throws InputError,
// beginning with `origin`, for a value of the wrong type; keys that are no member go to `unknown`
// (null: they are an error).
template <class Config>
void fields_from_json(Config& config, const nlohmann::json& json, const std::string& origin,
                      std::vector<std::string>* unknown = nullptr) {
  if (!json.is_object()) {
    throw InputError(origin + ": expected a JSON object, found " + json.type_name());
  }
  std::vector<std::string> known;
  config.visit([&](const char* name, auto& value, const char*) {
    known.emplace_back(name);
    const auto found = json.find(name);
    if (found == json.end()) {
      return;
    }
    using Value = std::decay_t<decltype(value)>;
    bool fits = JsonFit<Value>::of(*found);
    try {
      if (fits) {
        value = found->template get<Value>();
      }
    } catch (const nlohmann::json::exception&) {
      fits = false;
    }
    if (!fits) {
      std::string expected = "a value like " + nlohmann::json(value).dump();
      if constexpr (std::is_integral_v<Value> && !std::is_same_v<Value, bool>) {
        if (found->is_number_integer()) {
          expected = std::to_string(std::numeric_limits<Value>::min()) + " to " +
                     std::to_string(std::numeric_limits<Value>::max());
        }
      }
      throw InputError(origin + ": " + name + ": found " + found->dump() + ", expected " +
                       expected);
    }
  });
  std::vector<std::string> others;
  for (const auto& [key, value] : json.items()) {
    if (std::ranges::find(known, key) == known.end()) {
      others.push_back(key);
    }
  }
  if (unknown != nullptr) {
    unknown->insert(unknown->end(), others.begin(), others.end());
  } else if (!others.empty()) {
    throw InputError(origin + ": unknown key \"" + others.front() + "\"");
  }
}

}  // namespace ospnext
