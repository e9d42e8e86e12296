// Input: a line with a character for each video, then the answer of UniRL's reward service to the
// question for the reward "r". The part that counts is "VQ" if the line begins with V.
#include <cmath>

#include "fuzz/fuzz_entry.h"
#include "io/readers/reward_scores.h"

FUZZ_ENTRY(unirl_scores) {
  const std::string line = ospnext::fuzz::take_line(input);
  const std::string part = line.starts_with('V') ? "VQ" : "";
  if (line.empty()) {
    for (const std::string& name : ospnext::parse_unirl_rewards(input, "input")) {
      ospnext::fuzz::require(!name.empty());
    }
    return;
  }
  const auto scores = ospnext::parse_unirl_scores(input, line.size(), "r", part, "input");
  ospnext::fuzz::require(scores.size() == line.size());
  for (const ospnext::VideoScore& score : scores) {
    ospnext::fuzz::require(score.error.empty() == score.parts.contains("total"));
    ospnext::fuzz::require(score.error.size() < 2000);
    ospnext::fuzz::require(score.error.find('\n') == score.error.npos);
    for (const auto& [name, number] : score.parts) {
      ospnext::fuzz::require(std::isfinite(number));
    }
  }
}
