// The reward `motion`.
#include "rl/rewards/luma.h"
#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/score_each.h"

namespace ospnext {
namespace {

VideoScore judge(const at::Tensor& video) {  // video [3, F, H, W]
  if (video.size(1) < 2) {
    return {{}, "found one frame, expected two or more"};
  }
  constexpr double kLeast = 1.0 / 255;
  const at::Tensor steps = luma(video).diff(1, 0).abs().mean({1, 2}).to(at::kDouble);  // [F - 1]
  return {{{"total", steps.mean().item<double>()},
           {"frozen", (steps < kLeast).to(at::kDouble).mean().item<double>()}},
          ""};
}

class MotionReward final : public Reward {
  std::vector<VideoScore> score_videos(const at::Tensor& videos, const std::vector<std::string>&,
                                       const CancellationToken& cancel) const override {
    return score_each(videos.size(0), cancel, [&](int64_t i) { return judge(videos[i]); });
  }
};

}  // namespace

std::unique_ptr<Reward> make_motion_reward() {
  return std::make_unique<MotionReward>();
}

}  // namespace ospnext
