// The field list of a config struct, from which flags, JSON, help and printing are made.
//
// A config struct has `template <class Visitor> void visit(Visitor&& field)`, which calls
// `field(name, value, help)` once for each member. Names are snake_case; the flag of a member is
// its name with dashes.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
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

// Sets the members that `json` names; other members keep their values. Throws an InputError that
// begins with `origin` for a value of the wrong type. Keys that are not members are appended to
// `unknown`; if it is null, they are an error.
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
    bool fits = true;
    if constexpr (std::is_same_v<Value, bool>) {
      fits = found->is_boolean();
    } else if constexpr (std::is_integral_v<Value>) {
      fits = found->is_number_integer();
    } else if constexpr (std::is_floating_point_v<Value>) {
      fits = found->is_number();
    }
    try {
      if (fits) {
        value = found->template get<Value>();
      }
    } catch (const nlohmann::json::exception&) {
      fits = false;
    }
    if (!fits) {
      throw InputError(origin + ": " + name + ": found " + found->dump() +
                       ", expected a value like " + nlohmann::json(value).dump());
    }
  });
  for (const auto& [key, value] : json.items()) {
    bool found = false;
    for (const std::string& name : known) {
      found = found || name == key;
    }
    if (!found) {
      if (unknown == nullptr) {
        throw InputError(origin + ": unknown key \"" + key + "\"");
      }
      unknown->push_back(key);
    }
  }
}

}  // namespace ospnext
