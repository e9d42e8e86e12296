// Reinforcement learning as an objective of a training: rollouts, rewards, advantages, and the loss
// of an update. Sources: OSP-Next (arXiv 2605.28691) train/train_osp_RL.py; Li et al. 2025,
// MixGRPO, arXiv 2507.21802; Liu et al. 2025, Flow-GRPO, arXiv 2505.05470; Zheng et al. 2025,
// DiffusionNFT, arXiv 2509.16117.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rl/advantages.h"
#include "rl/epoch_seconds.h"
#include "rl/guards.h"
#include "rl/policy.h"
#include "rl/rl_config.h"
#include "rl/scored_videos.h"
#include "rl/update_rule.h"
#include "train/objective.h"
#include "train/sample_clips.h"

namespace ospnext {

// A pass is one update: the gradients of some videos, over all terms. When all videos of an
// epoch have been used, the next pass begins with new rollouts. Nothing that is drawn depends on
// the mesh.
class PolicyObjective final : public Objective {
 public:
  struct Options {
    RlConfig config;
    std::vector<std::string> prompts;
    std::vector<WeightedReward> rewards;
    std::vector<WeightedReward> watched;  // are logged, but not trained on
  };
  // The model's texts are embedded and alike, its VAE is loaded where a part is led. `samples` may
  // be null. All references must outlive the object. Throws InputError if the batches do not fit
  // the mesh or the prompts.
  PolicyObjective(VideoModel& model, Policy& policy, const TrainingRanks& ranks,
                  const SampleClips* samples, Options options, const CancellationToken& cancel);

  Pass add_gradients() override;
  // Between two epochs alone: rollouts are not saved.
  bool can_pause() const override { return next_ == updates_.size(); }
  bool is_finished() const override {
    return epochs_ == options_.config.epochs || !stop_reason().empty();
  }
  // Which guard has ended the training, as a sentence; empty: none.
  std::string stop_reason() const { return can_pause() ? guards_.violation() : ""; }
  std::optional<double> quality() const override { return guards_.reward(); }
  // Of the last epoch: the steps of its rollouts, and the number of terms of an update.
  const RolloutPlan& plan() const { return epoch_.plan; }
  int64_t trained_steps() const { return rule_->terms(epoch_); }
  // The settings of a rollout's sampling, apart from its steps.
  static GenerationConfig generation_of(const RlConfig& config);
  // The most updates that an epoch can have.
  static int64_t updates_of_an_epoch(const RlConfig& config);
  nlohmann::json state() const override;
  void restore(const nlohmann::json& state, const std::string& origin) override;
  int64_t sample_interval() const override;
  // Also writes the clips of step 0 and of this one side by side, if there are those of step 0.
  void sample(int64_t step) override;

 private:
  void begin_epoch();
  // Adds the gradients of an update. Returns the means of its losses over its terms.
  Losses add_gradients_of(const Update& update);
  void make_rollouts(ScoringQueue& queue);
  void score(ScoringQueue& queue, const at::Tensor& clean, const std::vector<std::string>& prompts);
  at::Tensor decoded(const at::Tensor& clean);
  Advantages advantages_of(const ScoredVideos& scored) const;
  void make_updates(const Advantages& advantages);
  Scalars statistics(const ScoredVideos& scored, const Advantages& advantages) const;
  PolicyTexts texts_of(const Update& update) const;
  void check_first_distance(double distance);
  void watch_guards();
  bool leads_part() const { return ranks_.work.sequence.all.rank() == 0; }

  VideoModel& model_;
  Policy& policy_;
  const TrainingRanks& ranks_;
  const SampleClips* samples_;
  Options options_;
  const CancellationToken& cancel_;
  std::unique_ptr<UpdateRule> rule_;
  GenerationConfig generation_;  // of the rollouts
  PromptSampling sampling_;
  SdeWindow window_;
  GuardWatch guards_;
  int64_t epochs_ = 0;

  // Of the current epoch:
  EpochRollouts epoch_;
  at::Tensor groups_;  // [n] int64: the prompts of the videos of all parts
  std::vector<Update> updates_;
  size_t next_ = 0;
  Scalars statistics_;
  EpochSeconds seconds_;
  bool warned_of_distance_ = false;
};

}  // namespace ospnext
