// Sampling flags with defaults from the model, and rules for flags that exclude each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/flags_from_fields.h"
#include "engine/generation_config.h"

namespace ospnext {

// The flags of `config`. The help shows no default for the fields of GenerationConfig, because the
// model sets them.
template <class Config>
std::vector<Flag> flags_with_model_defaults(const Config& config) {
  std::vector<Flag> flags = flags_of(config);
  GenerationConfig generation;
  generation.visit([&](const std::string& name, const auto&, const char*) {
    for (Flag& flag : flags) {
      if (flag.name == name) {
        flag.default_value = nullptr;
      }
    }
  });
  return flags;
}

// If noise levels are given, their number sets the number of steps. --steps or --shift on the
// command line overrides levels from a --config file or from the model. Throws InputError if
// --shift and --sigmas are both on the command line.
void settle_sigmas(const GivenFlags& given, std::vector<double>& sigmas, int64_t& steps);

}  // namespace ospnext
