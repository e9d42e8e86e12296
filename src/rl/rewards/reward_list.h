// The rewards that a user names, with their weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rl/rewards/reward.h"

namespace ospnext {

// Help of the field `reward`: the rewards there are.
const std::string& reward_help();

// What rewards outside this program need, beside their names.
struct RewardSettings {
  double reward_seconds = 120;  // as in UniRL's reward service
  std::string videoalign_url;

  // Throws InputError naming field, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("reward_seconds", reward_seconds, "time limit of a program or service that scores");
    field("videoalign_url", videoalign_url,
          "address of the service that the reward videoalign asks, as of score:URL");
  }
};

struct WeightedReward {
  std::string name;  // as the user wrote it, without the weight
  double weight = 1;
  std::shared_ptr<const Reward> reward;  // the same for parts of one reward
  std::string part = "total";            // the number that counts
};

// NAME or NAME:WEIGHT for each, where NAME#PART is a number of world, motion or exposure instead of
// their total; the text after the last colon is the weight if it is a number, and not the port of a
// URL without a weight. reward_help() says the names. Throws InputError, which
// begins with the name of a field, for a list that is empty or names one twice, for other names,
// and for weights of 0 or out of range.
std::vector<WeightedReward> parse_rewards(const std::vector<std::string>& texts,
                                          const RewardSettings& settings);
// The NAME of one of these texts.
std::string reward_name(const std::string& text);

}  // namespace ospnext
