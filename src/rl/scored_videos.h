// Scores of the videos of a rollout, computed beside the next rollout.
#pragma once

#include <cstdint>
#include <future>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/torch/torch.h"
#include "parallel/process_group.h"
#include "rl/rewards/reward_list.h"

namespace ospnext {

// The scores of n videos by K rewards, and what shows how different the videos are.
struct ScoredVideos {
  at::Tensor scores;  // [n, K] float64; 0 where `valid` is 0
  at::Tensor valid;   // [n] float64: 1 for a video that all rewards could score
  at::Tensor looks;   // [n, kLook] float64: a small picture of each video, for their diversity
  std::vector<std::string> errors;  // of this process's videos, each sentence once
};

// Scores videos in a thread of its own, one batch after the other.
class ScoringQueue {
 public:
  // `rewards` and `cancel` must outlive the object.
  ScoringQueue(const std::vector<WeightedReward>& rewards, const CancellationToken& cancel)
      : rewards_(rewards), cancel_(cancel) {}
  ~ScoringQueue();
  ScoringQueue(const ScoringQueue&) = delete;
  ScoringQueue& operator=(const ScoringQueue&) = delete;

  // videos [B, 3, T, H, W] float32 in [0, 1] on any device, with the prompt of each.
  void push(const at::Tensor& videos, const std::vector<std::string>& prompts);
  // Waits, and returns the scores of all that was pushed, in order. Throws Cancelled.
  ScoredVideos take();

 private:
  const std::vector<WeightedReward>& rewards_;
  const CancellationToken& cancel_;
  std::vector<std::shared_future<ScoredVideos>> batches_;
};

// The scores of all parts, in their order. Each part's leader gives its own [n, ...]; the other
// processes of a part give nothing (`own` without scores). All processes get the whole.
ScoredVideos gather_scores(const ScoredVideos& own, int64_t part, int64_t parts, int64_t n,
                           int64_t rewards, const ProcessGroup& all, at::Device device);

}  // namespace ospnext
