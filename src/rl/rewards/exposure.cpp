// The reward `exposure`.
#include "rl/rewards/luma.h"
#include "rl/rewards/reward_kinds.h"

namespace ospnext {
namespace {

class ExposureReward final : public Reward {
  std::vector<VideoScore> score_videos(const at::Tensor& videos, const std::vector<std::string>&,
                                       const CancellationToken& cancel) const override {
    constexpr double kDark = 0.02, kBright = 0.98;
    const auto share = [](const at::Tensor& chosen) {
      return chosen.to(at::kDouble).mean().item<double>();
    };
    std::vector<VideoScore> scores;
    for (const at::Tensor& video : videos.unbind()) {
      cancel.check();
      const at::Tensor brightness = luma(video);
      const double dark = share(brightness < kDark), bright = share(brightness > kBright);
      scores.push_back({{{"total", 1 - dark - bright},
                         {"dark", dark},
                         {"bright", bright},
                         {"mean", share(brightness)}},
                        ""});
    }
    return scores;
  }
};

}  // namespace

std::unique_ptr<Reward> make_exposure_reward() {
  return std::make_unique<ExposureReward>();
}

}  // namespace ospnext
