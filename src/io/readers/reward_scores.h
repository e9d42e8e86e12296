// Reads the answer of a program that scores videos, without torch.
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

// Parses {"scores": [...]} with one entry for each of `count` videos, in order: a number; an object
// of numbers with "total" among them; or {"error": "a sentence"}. Throws InputError, beginning with
// `origin`, for anything else: other JSON, another count, a number that is not finite.
std::vector<VideoScore> parse_reward_scores(std::string_view text, size_t count,
                                            const std::string& origin);

}  // namespace ospnext
