// The reward `exposure`.
#include "rl/rewards/luma.h"
#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/score_each.h"

namespace ospnext {
namespace {

VideoScore judge(const at::Tensor& video) {  // video [3, F, H, W]
  constexpr double kDark = 0.02, kBright = 0.98;
  const auto share = [](const at::Tensor& chosen) {
    return static_cast<double>(chosen.sum().item<int64_t>()) / static_cast<double>(chosen.numel());
  };
  const at::Tensor brightness = luma(video);
  const double dark = share(brightness < kDark), bright = share(brightness > kBright);
  return {{{"total", 1 - dark - bright},
           {"dark", dark},
           {"bright", bright},
           {"mean", brightness.mean(at::kDouble).item<double>()}},
          ""};
}

class ExposureReward final : public Reward {
  std::vector<VideoScore> score_videos(const at::Tensor& videos, const std::vector<std::string>&,
                                       const CancellationToken& cancel) const override {
    return score_each(videos.size(0), cancel, [&](int64_t i) { return judge(videos[i]); });
  }
};

}  // namespace

std::unique_ptr<Reward> make_exposure_reward() {
  return std::make_unique<ExposureReward>();
}

}  // namespace ospnext
