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
  if (entry.size() > kMostParts || !entry.contains("total")) {
    throw InputError(origin + ": found " + shown(entry) + ", expected up to " +
                     std::to_string(kMostParts) + " numbers, \"total\" among them");
  }
  VideoScore result;
  for (const auto& [name, value] : entry.items()) {
    result.parts[name] = number(value, origin + ": " + quoted(name));
  }
  return result;
}

}  // namespace

std::vector<VideoScore> parse_reward_scores(std::string_view text, size_t count,
                                            const std::string& origin) {
  const json answer = parse_bounded_json(text, origin);
  const auto scores = answer.is_object() ? answer.find("scores") : answer.end();
  if (scores == answer.end() || !scores->is_array()) {
    throw InputError(origin + ": found " + shown(answer) + ", expected {\"scores\": [...]}");
  }
  if (scores->size() != count) {
    throw InputError(origin + ": scores: found " + std::to_string(scores->size()) + ", expected " +
                     std::to_string(count) + ", one for each video");
  }
  std::vector<VideoScore> result;
  for (size_t i = 0; i < count; ++i) {
    result.push_back(score((*scores)[i], origin + ": scores[" + std::to_string(i) + "]"));
  }
  return result;
}

}  // namespace ospnext
