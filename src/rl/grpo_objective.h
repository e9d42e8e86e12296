// Mix-GRPO as an objective of a training: rollouts, rewards, advantages, and the loss of an update.
// Sources: OSP-Next (arXiv 2605.28691) train/train_osp_RL.py; Li et al. 2025, MixGRPO, arXiv
// 2507.21802; Liu et al. 2025, Flow-GRPO, arXiv 2505.05470.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rl/advantages.h"
#include "rl/epoch_seconds.h"
#include "rl/guards.h"
#include "rl/policy.h"
#include "rl/rl_config.h"
#include "rl/rollout.h"
#include "rl/scored_videos.h"
#include "train/objective.h"
#include "train/sample_clips.h"

namespace ospnext {

// A pass is one update: the gradients of some videos, over all noisy steps. When all videos of an
// epoch have been used, the next pass begins with new rollouts. Nothing that is drawn depends on
// the mesh.
class GrpoObjective final : public Objective {
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
  GrpoObjective(VideoModel& model, Policy& policy, const TrainingRanks& ranks,
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
  // Of the last epoch: the steps of its rollouts, and the number of noisy ones in an update.
  const RolloutPlan& plan() const { return plan_; }
  int64_t trained_steps() const { return trained_steps_; }
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
  // A video of this part: which rollout, and which of its videos.
  struct VideoPlace {
    int64_t rollout, video;
  };
  struct Update {
    std::vector<VideoPlace> videos;
    at::Tensor advantages;     // [n] float64
    at::Tensor old_log_probs;  // [T, n] float64 of the T steps that are trained on
    bool first = false;        // no update has been made since the rollouts
  };

  void begin_epoch();
  // Adds the gradients of an update. Returns the means of its losses over its noisy steps.
  Losses add_gradients_of(const Update& update);
  void make_rollouts(ScoringQueue& queue);
  void score(ScoringQueue& queue, const at::Tensor& clean, const std::vector<std::string>& prompts);
  at::Tensor decoded(const at::Tensor& clean);
  Advantages advantages_of(const ScoredVideos& scored) const;
  void make_updates(const Advantages& advantages);
  at::Tensor old_log_probs(const Update& update);
  Scalars statistics(const ScoredVideos& scored, const Advantages& advantages) const;
  // The latents of an update's videos before noisy step j, which are those behind step j - 1:
  // [n, C, F, h, w].
  at::Tensor latents_of(const Update& update, int64_t j) const;
  PolicyTexts texts_of(const Update& update) const;
  at::Tensor timestep(int64_t j) const;
  PolicyLoss step_loss(const Update& update, const PolicyTexts& texts, int64_t j);
  void check_first_ratio(double largest);
  void watch_guards();
  bool leads_part() const { return ranks_.work.sequence.all.rank() == 0; }
  bool guides_updates() const { return options_.config.rollout.guidance_in_update; }
  int64_t videos_of_part() const {
    const RolloutConfig& rollout = options_.config.rollout;
    return rollout.sample_batch_size * rollout.batches_per_epoch * rollout.group_rollouts;
  }

  VideoModel& model_;
  Policy& policy_;
  const TrainingRanks& ranks_;
  const SampleClips* samples_;
  Options options_;
  const CancellationToken& cancel_;
  GenerationConfig generation_;  // of the rollouts
  PromptSampling sampling_;
  SdeWindow window_;
  GuardWatch guards_;
  int64_t epochs_ = 0;

  // Of the current epoch:
  RolloutPlan plan_;
  StepRange noisy_;
  int64_t trained_steps_ = 0;
  at::Tensor groups_;  // [n] int64: the prompts of the videos of all parts
  std::vector<std::vector<std::string>> prompts_;  // of the part's videos, by rollout
  std::vector<Rollout> rollouts_;
  std::vector<Update> updates_;
  size_t next_ = 0;
  Scalars statistics_;
  EpochSeconds seconds_;
  bool warned_of_ratio_ = false;
};

}  // namespace ospnext
