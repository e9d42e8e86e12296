// The rewards that a user names, with their weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rl/rewards/reward.h"

namespace ospnext {

// Help of the field `reward`: the rewards there are.
const std::string& reward_help();

struct WeightedReward {
  std::string name;  // as the user wrote it, without the weight
  double weight = 1;
  std::shared_ptr<const Reward> reward;
};

// NAME or NAME:WEIGHT for each; the text after the last colon is the weight if it is a number. A
// name is world, motion, exposure, sharpness, or command:PROGRAM, for a program that answers within
// `seconds`. Throws InputError, which begins with "`reward`", for a list that is empty or names one
// twice, for other names, and for weights of 0 or out of range.
std::vector<WeightedReward> parse_rewards(const std::vector<std::string>& texts, double seconds);

}  // namespace ospnext
