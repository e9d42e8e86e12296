// Input: a line with the number of videos, then the answer of a program that scores them.
#include "io/readers/reward_scores.h"

#include <cmath>

#include "fuzz/fuzz_entry.h"

FUZZ_ENTRY(reward_scores) {
  const size_t count = ospnext::fuzz::take_line(input).size();
  const auto scores = ospnext::parse_reward_scores(input, count, "input");
  ospnext::fuzz::require(scores.size() == count);
  for (const ospnext::VideoScore& score : scores) {
    ospnext::fuzz::require(score.error.empty() == score.parts.contains("total"));
    for (const auto& [name, number] : score.parts) {
      ospnext::fuzz::require(std::isfinite(number));
    }
  }
}
