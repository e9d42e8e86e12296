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

// Frames a second of the videos that a service gets: Wan's, and for VideoAlign those of OSP-Next's
// reward, which writes files of 8 (train/train_osp_RL.py), so that it sees 20 frames of 81.
constexpr double kFps = 16, kVideoAlignFps = 8;

struct Kind {
  const char* name;
  std::vector<std::string_view> parts;  // its numbers, beside the total
  std::unique_ptr<Reward> (*make)();
};

// To add a reward without settings, add a line here.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> list = {
      {"world", {"background", "colour", "size", "shape", "motion", "all_five"}, make_world_reward},
      {"motion", {"frozen"}, make_motion_reward},
      {"exposure", {"dark", "bright", "mean"}, make_exposure_reward},
      {"sharpness", {}, make_sharpness_reward},
  };
  return list;
}

// Of "NAME#PART" of one of these rewards, NAME; of other texts the whole.
std::string base_name(const std::string& name) {
  const size_t hash = name.find('#');
  const auto named = [&](const Kind& kind) { return name.substr(0, hash) == kind.name; };
  return hash != name.npos && std::ranges::any_of(kinds(), named) ? name.substr(0, hash) : name;
}

// The number of the reward that counts. Throws InputError for one that it does not have.
std::string part_of(const std::string& name) {
  const std::string base = base_name(name);
  if (base == name) {
    return "total";
  }
  const auto kind = std::ranges::find(kinds(), base, &Kind::name);
  std::string part = name.substr(base.size() + 1);
  if (std::ranges::find(kind->parts, part) != kind->parts.end()) {
    return part;
  }
  std::string expected = base;
  for (const std::string_view known : kind->parts) {
    expected.append(", ").append(base).append("#").append(known);
  }
  throw InputError("`reward`: found \"" + name + "\", expected one of " + expected);
}

// URL, URL#NAME or URL#NAME.PART
std::unique_ptr<Reward> make_score(const std::string& text, const RewardSettings& settings) {
  const size_t hash = text.find('#');
  const std::string name = hash == text.npos ? "" : text.substr(hash + 1);
  const size_t dot = name.find('.');
  const ServiceReward asked{name.substr(0, dot), dot == name.npos ? "" : name.substr(dot + 1)};
  if ((hash != text.npos && asked.name.empty()) || (dot != name.npos && asked.part.empty())) {
    throw InputError("`reward`: found \"score:" + text + "\", expected score:URL#NAME.PART");
  }
  return make_score_reward(text.substr(0, hash), asked, settings.reward_seconds, kFps);
}

std::unique_ptr<Reward> make_compute(const std::string& url, const RewardSettings& settings) {
  return make_compute_reward(url, settings.reward_seconds);
}

std::unique_ptr<Reward> make_command(const std::string& program, const RewardSettings& settings) {
  return make_command_reward(program, settings.reward_seconds);
}

// The rewards with a text behind their name.
struct Outside {
  const char* prefix;
  const char* text;  // what stands behind it, for messages
  std::unique_ptr<Reward> (*make)(const std::string& text, const RewardSettings& settings);
};

constexpr auto kOutside = std::to_array<Outside>({
    {"command:", "PROGRAM", make_command},
    {"score:", "URL", make_score},
    {"compute:", "URL", make_compute},
});

constexpr const char* kVideoAlign = "videoalign";

// "world, motion, ... or compute:URL"
std::string known_names() {
  std::string text;
  for (const Kind& kind : kinds()) {
    text.append(kind.name).append(", ");
  }
  text.append(kVideoAlign);
  for (const Outside& outside : kOutside) {
    const bool is_last = &outside == &kOutside.back();
    text.append(is_last ? " or " : ", ").append(outside.prefix).append(outside.text);
  }
  return text;
}

std::optional<double> whole_number(std::string_view text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size() ? std::optional(value)
                                                                   : std::nullopt;
}

// Whether the colon at `place` is that of the port of a URL: http://HOST:PORT
bool is_of_port(std::string_view text, size_t place) {
  const size_t scheme = text.find("://");
  if (scheme == text.npos || place <= scheme) {
    return false;
  }
  const std::string_view before = text.substr(scheme + 3, place - scheme - 3);
  if (before.starts_with('[')) {  // an IPv6 address, which has colons of its own
    return before.find(']') == before.npos || before.ends_with(']');
  }
  return before.find_first_of("/:#") == before.npos;
}

// The name without the weight, and the weight.
WeightedReward parse_weight(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon != text.npos && !is_of_port(text, colon)) {
    if (const auto weight = whole_number(std::string_view(text).substr(colon + 1))) {
      return {.name = text.substr(0, colon), .weight = *weight, .reward = {}, .part = {}};
    }
  }
  return {.name = text, .weight = 1, .reward = {}, .part = {}};
}

std::unique_ptr<Reward> make_reward(const std::string& name, const RewardSettings& settings) {
  for (const Outside& outside : kOutside) {
    const std::string_view prefix = outside.prefix;
    if (name.starts_with(prefix) && name.size() > prefix.size()) {
      return outside.make(name.substr(prefix.size()), settings);
    }
  }
  for (const Kind& kind : kinds()) {
    if (name == kind.name) {
      return kind.make();
    }
  }
  if (name == kVideoAlign) {
    if (settings.videoalign_url.empty()) {
      throw InputError(
          "`videoalign_url`: missing, expected the address of a service for the "
          "reward videoalign, such as http://127.0.0.1:8080");
    }
    return make_score_reward(settings.videoalign_url, {.name = kVideoAlign, .part = ""},
                             settings.reward_seconds, kVideoAlignFps);
  }
  throw InputError("`reward`: found \"" + name + "\", expected " + known_names() +
                   ", and a weight behind a colon");
}

}  // namespace

const std::string& reward_help() {
  static const std::string help =
      "NAME:WEIGHT, may be repeated: " + known_names() +
      "; NAME#PART is a number of a reward instead of its total; the default weight is 1";
  return help;
}

void RewardSettings::check() const {
  check_range("`reward_seconds`", reward_seconds, 0.01, 1e6);
}

std::string reward_name(const std::string& text) {
  return parse_weight(text).name;
}

std::vector<WeightedReward> parse_rewards(const std::vector<std::string>& texts,
                                          const RewardSettings& settings) {
  constexpr double kMost = 1e6;
  settings.check();
  if (texts.empty()) {
    throw InputError("`reward`: missing, expected " + known_names());
  }
  std::vector<WeightedReward> rewards;
  for (const std::string& text : texts) {
    WeightedReward parsed = parse_weight(text);
    check_range("`reward`: weight of " + parsed.name, parsed.weight, -kMost, kMost);
    if (parsed.weight == 0) {
      throw InputError("`reward`: weight of " + parsed.name + ": found 0, expected another number");
    }
    if (std::ranges::any_of(rewards,
                            [&](const auto& other) { return other.name == parsed.name; })) {
      throw InputError("`reward`: found " + parsed.name + " twice, expected it once");
    }
    parsed.part = part_of(parsed.name);
    const std::string base = base_name(parsed.name);
    const auto same = std::ranges::find_if(
        rewards, [&](const auto& other) { return base_name(other.name) == base; });
    parsed.reward = same == rewards.end() ? make_reward(base, settings) : same->reward;
    rewards.push_back(std::move(parsed));
  }
  return rewards;
}

}  // namespace ospnext
