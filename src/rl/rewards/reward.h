// Rewards: functions that say how good a video is.
#pragma once

#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/torch/torch.h"
#include "io/readers/reward_scores.h"

namespace ospnext {

// May be used by several threads at the same time.
class Reward {
 public:
  virtual ~Reward() = default;

  // videos [B, 3, F, H, W] of any float type in [0, 1], on any device; a prompt for each -> [B]
  // scores. A video that could not be scored has an error, a sentence; so have a score that is not
  // finite and a video with such pixels. A missing score is never replaced by a number. Throws
  // c10::Error for other shapes, and Cancelled.
  std::vector<VideoScore> score(const at::Tensor& videos, const std::vector<std::string>& prompts,
                                const CancellationToken& cancel) const;

 private:
  // What score() returns, before its numbers are looked at. videos are on the CPU, in finite
  // float32. An InputError or a RunError is the error of each of the videos.
  virtual std::vector<VideoScore> score_videos(const at::Tensor& videos,
                                               const std::vector<std::string>& prompts,
                                               const CancellationToken& cancel) const = 0;
};

}  // namespace ospnext
