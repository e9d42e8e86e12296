#include "io/readers/reward_scores.h"

#include <cmath>
#include <utility>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr size_t kMostParts = 64;

double number(const json& value, const std::string& origin) {
  const double found = value.is_number() ? value.get<double>() : std::nan("");
  if (!std::isfinite(found)) {
    throw InputError(origin + ": found " + shown(value) + ", expected a number");
  }
  return found;
}

std::map<std::string, double> numbers(const json& object, const std::string& origin) {
  if (!object.is_object() || object.empty() || object.size() > kMostParts) {
    throw InputError(origin + ": found " + shown(object) + ", expected up to " +
                     std::to_string(kMostParts) + " numbers by name");
  }
  std::map<std::string, double> found;
  for (const auto& [name, value] : object.items()) {
    found[name] = number(value, origin + ": " + quoted(name));
  }
  return found;
}

// The list `name` of an answer.
const json& list(const json& answer, const std::string& name, const std::string& origin) {
  const auto found = answer.is_object() ? answer.find(name) : answer.end();
  if (found == answer.end() || !found->is_array()) {
    throw InputError(origin + ": found " + shown(answer) + ", expected {\"" + name + "\": [...]}");
  }
  return *found;
}

// The same, with an entry for each video.
const json& list_of_videos(const json& answer, const std::string& name, size_t count,
                           const std::string& origin) {
  const json& entries = list(answer, name, origin);
  if (entries.size() != count) {
    throw InputError(origin + ": " + name + ": found " + std::to_string(entries.size()) +
                     ", expected " + std::to_string(count) + ", one for each video");
  }
  return entries;
}

VideoScore score(const json& entry, const std::string& origin) {
  if (!entry.is_object()) {
    return {{{"total", number(entry, origin)}}, ""};
  }
  if (const auto error = entry.find("error"); error != entry.end()) {
    const std::string sentence = error->is_string() ? error->get<std::string>() : "";
    if (sentence.empty() || entry.size() != 1) {
      throw InputError(origin + ": found " + shown(entry) +
                       ", expected \"error\" alone, with text");
    }
    return {{}, quoted(sentence)};
  }
  if (!entry.contains("total")) {
    throw InputError(origin + ": found " + shown(entry) +
                     ", expected numbers with \"total\" among them");
  }
  return {numbers(entry, origin), ""};
}

// The number that counts of those that a service gave.
double total_of(const std::map<std::string, double>& parts, const std::string& part,
                const std::string& origin) {
  const std::string names = shown(json(parts));
  if (!part.empty()) {
    const auto found = parts.find(part);
    if (found == parts.end()) {
      throw InputError(origin + ": found " + names + ", expected " + quoted(part));
    }
    return found->second;
  }
  for (const char* name : {"total", "Overall"}) {
    if (const auto found = parts.find(name); found != parts.end()) {
      return found->second;
    }
  }
  if (parts.size() != 1) {
    throw InputError(origin + ": found " + names +
                     ", expected one of them behind the name of the reward, as NAME.PART");
  }
  return parts.begin()->second;
}

// The score of one video, or its error, from the entries of the two lists.
VideoScore unirl_score(const json& result, const json& errors, const std::string& reward,
                       const std::string& part, const std::string& origin) {
  try {
    if (result.is_object() && result.contains(reward)) {
      const std::string place = origin + ": " + quoted(reward);
      VideoScore found{numbers(result.at(reward), place), ""};
      const double total = total_of(found.parts, part, place);
      found.parts["total"] = total;
      return found;
    }
  } catch (const InputError& error) {
    return {{}, error.what()};
  }
  if (errors.is_object() && errors.contains(reward)) {
    return {{}, shown(errors.at(reward))};
  }
  return {{}, origin + ": found " + shown(result) + ", expected a score by " + quoted(reward)};
}

}  // namespace

std::vector<VideoScore> parse_reward_scores(std::string_view text, size_t count,
                                            const std::string& origin) {
  const json answer = parse_bounded_json(text, origin);
  const json& scores = list_of_videos(answer, "scores", count, origin);
  std::vector<VideoScore> result;
  for (size_t i = 0; i < count; ++i) {
    result.push_back(score(scores[i], origin + ": scores[" + std::to_string(i) + "]"));
  }
  return result;
}

std::vector<VideoScore> parse_unirl_scores(std::string_view text, size_t count,
                                           const std::string& reward, const std::string& part,
                                           const std::string& origin) {
  const json answer = parse_bounded_json(text, origin);
  const json& results = list_of_videos(answer, "results", count, origin);
  const bool has_errors = answer.contains("errors") && answer.at("errors") != json::array();
  const json none;
  std::vector<VideoScore> scores;
  for (size_t i = 0; i < count; ++i) {
    const json& errors = has_errors ? list_of_videos(answer, "errors", count, origin)[i] : none;
    scores.push_back(unirl_score(results[i], errors, reward, part,
                                 origin + ": results[" + std::to_string(i) + "]"));
  }
  return scores;
}

std::vector<std::string> parse_unirl_rewards(std::string_view text, const std::string& origin) {
  const json answer = parse_bounded_json(text, origin);
  std::vector<std::string> names;
  for (const json& name : list(answer, "rewards", origin)) {
    if (!name.is_string() || name.get_ref<const std::string&>().empty()) {
      throw InputError(origin + ": rewards: found " + shown(name) + ", expected a name");
    }
    names.push_back(name.get<std::string>());
  }
  return names;
}

std::vector<VideoScore> parse_flow_factory_rewards(std::string_view text, size_t count,
                                                   const std::string& origin) {
  const json answer = parse_bounded_json(text, origin);
  const json& rewards = list_of_videos(answer, "rewards", count, origin);
  std::vector<VideoScore> scores;
  for (size_t i = 0; i < count; ++i) {
    try {
      const double total = number(rewards[i], origin + ": rewards[" + std::to_string(i) + "]");
      scores.push_back({{{"total", total}}, ""});
    } catch (const InputError& error) {
      scores.push_back({{}, error.what()});
    }
  }
  return scores;
}

}  // namespace ospnext
