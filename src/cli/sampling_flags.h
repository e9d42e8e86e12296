// Flags of sampling whose defaults come from the model, and how some of them exclude each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/flags_from_fields.h"
#include "engine/generation_config.h"

namespace ospnext {

// The flags of `config`, where the help shows no default for those that the model will set: the
// fields of a GenerationConfig.
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

// Noise levels written down say how many steps there are. --steps or --shift on the command line goes
// before levels that a --config file or the model brings. Throws InputError for --shift beside --sigmas.
void settle_sigmas(const GivenFlags& given, std::vector<double>& sigmas, int64_t& steps);

}  // namespace ospnext
