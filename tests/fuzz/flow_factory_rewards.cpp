// Input: a line with a character for each video, then the answer of Flow-Factory's reward server.
#include <cmath>

#include "fuzz/fuzz_entry.h"
#include "io/readers/reward_scores.h"

FUZZ_ENTRY(flow_factory_rewards) {
  const size_t count = ospnext::fuzz::take_line(input).size();
  const auto scores = ospnext::parse_flow_factory_rewards(input, count, "input");
  ospnext::fuzz::require(scores.size() == count);
  for (const ospnext::VideoScore& score : scores) {
    ospnext::fuzz::require(score.error.empty() ? std::isfinite(score.parts.at("total"))
                                               : score.parts.empty());
  }
}
