// Reads the answers of programs and services that score videos, without torch.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

// How good a video is in the eyes of one reward: numbers by name, of which "total" is the one that
// counts; or why there are none.
struct VideoScore {
  std::map<std::string, double> parts;
  std::string error;  // empty: parts has "total"
};

// The three parsers below read an answer about `count` videos, in their order. Each throws
// InputError, beginning with `origin`, for text that is not JSON, of another form, or with another
// number of entries.

// {"scores": [...]}: a number; an object of numbers with "total" among them; or {"error": "a
// sentence"}. Also throws for a number that is not finite.
std::vector<VideoScore> parse_reward_scores(std::string_view text, size_t count,
                                            const std::string& origin);

// {"results": [{REWARD: {NAME: number, ...}}, ...], "errors": [{REWARD: "a sentence"}, ...]}, where
// "errors" may be absent. The parts of a score have the names of the answer. The one that counts is
// `part`, or if that is empty "total", "Overall", or the only one. A video has an error where the
// answer gives one, or has nothing of this form.
// Source: UniRL, unirl-reward-service/reward_service/schemas.py, ScoreResponse.
std::vector<VideoScore> parse_unirl_scores(std::string_view text, size_t count,
                                           const std::string& reward, const std::string& part,
                                           const std::string& origin);
// {"rewards": [NAME, ...]}: what GET /rewards of the same service answers. Throws as above, also
// for names that are empty.
std::vector<std::string> parse_unirl_rewards(std::string_view text, const std::string& origin);

// {"rewards": [number, ...]}. A video has an error where there is no number.
// Source: Flow-Factory, src/flow_factory/rewards/my_reward_remote.py.
std::vector<VideoScore> parse_flow_factory_rewards(std::string_view text, size_t count,
                                                   const std::string& origin);

}  // namespace ospnext
