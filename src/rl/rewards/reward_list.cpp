#include "rl/rewards/reward_list.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "core/error.h"
#include "core/number_check.h"
#include "rl/rewards/reward_kinds.h"

namespace ospnext {
namespace {

constexpr const char* kCommand = "command:";

struct Kind {
  const char* name;
  std::unique_ptr<Reward> (*make)();
};

// To add a reward without settings, add a line here.
constexpr auto kKinds = std::to_array<Kind>({
    {"world", make_world_reward},
    {"motion", make_motion_reward},
    {"exposure", make_exposure_reward},
    {"sharpness", make_sharpness_reward},
});

// "world, motion, ... or command:PROGRAM"
std::string known_names() {
  std::string text;
  for (const Kind& kind : kKinds) {
    text.append(text.empty() ? "" : ", ").append(kind.name);
  }
  return text.append(" or ").append(kCommand).append("PROGRAM");
}

std::optional<double> whole_number(std::string_view text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size() ? std::optional(value)
                                                                   : std::nullopt;
}

std::unique_ptr<Reward> make_reward(const std::string& name, double seconds) {
  if (name.starts_with(kCommand) && name != kCommand) {
    return make_command_reward(name.substr(std::string(kCommand).size()), seconds);
  }
  for (const Kind& kind : kKinds) {
    if (name == kind.name) {
      return kind.make();
    }
  }
  throw InputError("`reward`: found \"" + name + "\", expected " + known_names() +
                   ", and a weight behind a colon");
}

}  // namespace

const std::string& reward_help() {
  static const std::string help =
      "NAME:WEIGHT, may be repeated: " + known_names() + "; the default weight is 1";
  return help;
}

std::vector<WeightedReward> parse_rewards(const std::vector<std::string>& texts, double seconds) {
  constexpr double kMost = 1e6;
  if (texts.empty()) {
    throw InputError("`reward`: missing, expected " + known_names());
  }
  std::vector<WeightedReward> rewards;
  for (const std::string& text : texts) {
    WeightedReward parsed{.name = text, .weight = 1, .reward = nullptr};
    const size_t colon = text.rfind(':');
    if (colon != std::string::npos) {
      if (const auto weight = whole_number(std::string_view(text).substr(colon + 1))) {
        parsed.name = text.substr(0, colon);
        parsed.weight = *weight;
      }
    }
    check_range("`reward`: weight of " + parsed.name, parsed.weight, -kMost, kMost);
    if (parsed.weight == 0) {
      throw InputError("`reward`: weight of " + parsed.name + ": found 0, expected another number");
    }
    if (std::ranges::any_of(rewards,
                            [&](const auto& other) { return other.name == parsed.name; })) {
      throw InputError("`reward`: found " + parsed.name + " twice, expected it once");
    }
    parsed.reward = make_reward(parsed.name, seconds);
    rewards.push_back(std::move(parsed));
  }
  return rewards;
}

}  // namespace ospnext
