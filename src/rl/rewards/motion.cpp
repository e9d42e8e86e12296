// The reward `motion`.
#include "rl/rewards/luma.h"
#include "rl/rewards/reward_kinds.h"

namespace ospnext {
namespace {

class MotionReward final : public Reward {
  std::vector<VideoScore> score_videos(const at::Tensor& videos, const std::vector<std::string>&,
                                       const CancellationToken& cancel) const override {
    std::vector<VideoScore> scores;
    for (const at::Tensor& video : videos.unbind()) {
      cancel.check();
      if (video.size(1) < 2) {
        scores.push_back({{}, "found one frame, expected two or more"});
        continue;
      }
      constexpr double kLeast = 1.0 / 255;
      const at::Tensor steps =
          luma(video).diff(1, 0).abs().mean({1, 2}).to(at::kDouble);  // [F - 1]
      scores.push_back({{{"total", steps.mean().item<double>()},
                         {"frozen", (steps < kLeast).to(at::kDouble).mean().item<double>()}},
                        ""});
    }
    return scores;
  }
};

}  // namespace

std::unique_ptr<Reward> make_motion_reward() {
  return std::make_unique<MotionReward>();
}

}  // namespace ospnext
