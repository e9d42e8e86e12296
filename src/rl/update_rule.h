// How the policy learns from the videos of an epoch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "rl/policy.h"
#include "rl/rl_config.h"
#include "rl/rollout.h"
#include "train/objective.h"

namespace ospnext {

// What this part of the mesh has made in an epoch.
struct EpochRollouts {
  RolloutPlan plan;
  StepRange noisy;  // the steps of the plan that add noise
  std::vector<Rollout> rollouts;
};

// A video of an epoch: which rollout, and which of its videos.
struct VideoPlace {
  int64_t rollout, video;
};

// The videos of an update, n of them.
struct Update {
  std::vector<VideoPlace> videos;
  at::Tensor advantages;  // [n] float64
  at::Tensor old;         // what UpdateRule::old() said of them
  bool first = false;     // no update has been made since the rollouts
  int64_t pass = 0;       // over the videos of the epoch, from 0 to inner_epochs - 1
};

// The loss of an update is the mean of its terms.
struct UpdateTerm {
  at::Tensor loss;      // a scalar with gradients
  at::Tensor distance;  // a scalar: how far the policy is from that of the rollouts
  Losses numbers;       // scalars, for the log
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  virtual int64_t terms(const EpochRollouts& epoch) const = 0;
  // What the policy of the rollouts says of the videos, as the terms need it: called before the
  // epoch's first update. `texts` makes those of the update, where they are needed.
  virtual at::Tensor old(const EpochRollouts& epoch, const Update& update,
                         const std::function<PolicyTexts()>& texts) = 0;
  // Term j. The distance is 0 in a first update.
  virtual UpdateTerm term(const EpochRollouts& epoch, const Update& update,
                          const PolicyTexts& texts, int64_t j) = 0;
  // Of the distance, in the log.
  virtual const char* distance_name() const = 0;
};

// The last step of a rollout, counted from 0, that an update may train in any epoch.
int64_t last_trained_step(const RlConfig& config);

// The rule of the configuration's algorithm. Both must outlive the result.
//   osp, mix  a term for each trained step with noise: policy_loss() (rl/policy_loss.h)
//   nft       a term for each trained level of the rollout, from the noisiest on: forward_loss()
//             (rl/forward_loss.h)
std::unique_ptr<UpdateRule> make_update_rule(const RlConfig& config, Policy& policy);

}  // namespace ospnext
