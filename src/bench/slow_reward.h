// A reward that takes as long as a slow service.
#pragma once

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "rl/rewards/reward.h"

namespace ospnext {

// Sleeps for each video; then a video's score is its mean brightness, so that the videos of a group
// differ.
class SlowReward final : public Reward {
 public:
  explicit SlowReward(double seconds_per_video) : seconds_(seconds_per_video) {}

 private:
  std::vector<VideoScore> score_videos(const at::Tensor& videos, const std::vector<std::string>&,
                                       const CancellationToken& cancel) const override {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::milliseconds kPoll(20);
    const std::chrono::duration<double> all(seconds_ * static_cast<double>(videos.size(0)));
    const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(all);
    while (Clock::now() < until) {
      cancel.check();
      std::this_thread::sleep_for(std::min<Clock::duration>(kPoll, until - Clock::now()));
    }
    std::vector<VideoScore> scores;
    for (const at::Tensor& video : videos.unbind()) {
      scores.push_back({{{"total", video.mean().item<double>()}}, ""});
    }
    return scores;
  }

  double seconds_;
};

}  // namespace ospnext
