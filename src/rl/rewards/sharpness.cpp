// The reward `sharpness`.
#include "rl/rewards/luma.h"
#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/score_each.h"

namespace ospnext {
namespace {

// The sum of the four neighbours minus four times the pixel: y [F, H, W] -> [F, H - 2, W - 2]
at::Tensor laplacian(const at::Tensor& y) {
  const int64_t height = y.size(1) - 2, width = y.size(2) - 2;
  const auto moved = [&](int64_t row, int64_t column) {
    return y.narrow(1, row, height).narrow(2, column, width);
  };
  return moved(0, 1) + moved(2, 1) + moved(1, 0) + moved(1, 2) - 4 * moved(1, 1);
}

VideoScore judge(const at::Tensor& video) {  // video [3, F, H, W]
  if (video.size(2) < 3 || video.size(3) < 3) {
    return {{},
            "found frames of " + std::to_string(video.size(2)) + " x " +
                std::to_string(video.size(3)) + " pixels, expected at least 3 x 3"};
  }
  const at::Tensor deviations =
      laplacian(luma(video)).flatten(1).std(1, /*unbiased=*/false);  // [F]
  return {{{"total", deviations.to(at::kDouble).mean().item<double>()}}, ""};
}

class SharpnessReward final : public Reward {
  std::vector<VideoScore> score_videos(const at::Tensor& videos, const std::vector<std::string>&,
                                       const CancellationToken& cancel) const override {
    return score_each(videos.size(0), cancel, [&](int64_t i) { return judge(videos[i]); });
  }
};

}  // namespace

std::unique_ptr<Reward> make_sharpness_reward() {
  return std::make_unique<SharpnessReward>();
}

}  // namespace ospnext
