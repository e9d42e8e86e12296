#include "rl/forward_loss.h"

#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

// Mean of each sample: [n, ...] -> [n]
at::Tensor mean_of_each(const at::Tensor& values) {
  return values.flatten(1).mean(1);  // [n]
}

// How far `velocity` is from denoising the videos: e+ or e-, [n].
at::Tensor error_of(const at::Tensor& velocity, const NoisedVideos& videos) {
  constexpr double kLeast = 1e-5;
  const at::Tensor apart = videos.noised - videos.level * velocity - videos.clean;  // [n, ...]
  return mean_of_each(apart.square()) / mean_of_each(apart.detach().abs()).clamp_min(kLeast);
}

}  // namespace

ForwardLoss forward_loss(const ForwardLossConfig& config, const NoisedVideos& videos,
                         const ForwardVelocities& velocities, const at::Tensor& advantages) {
  CHECK_SHAPE(advantages, videos.clean.size(0));
  TORCH_CHECK(videos.level > 0, "forward_loss: level ", videos.level);
  const NoisedVideos wide{videos.clean.to(at::kDouble), videos.noised.to(at::kDouble),
                          videos.level};
  const at::Tensor policy = velocities.policy.to(at::kDouble);
  const at::Tensor old = velocities.old.detach().to(at::kDouble);
  const at::Tensor good =
      (advantages.detach().to(at::kDouble) / config.adv_clip).clamp(-1, 1) / 2 + 0.5;  // [n]
  const at::Tensor change = policy - old;

  ForwardLoss result;
  const at::Tensor errors = good * error_of(old + config.beta * change, wide) +
                            (1 - good) * error_of(old - config.beta * change, wide);
  result.policy_loss = errors.mean() * (config.adv_clip / config.beta);
  result.kl = velocities.reference.defined()
                  ? (policy - velocities.reference.detach().to(at::kDouble)).square().mean()
                  : at::zeros_like(result.policy_loss);
  result.loss = result.policy_loss + config.kl_beta * result.kl;
  result.change = change.detach().square().mean();
  return result;
}

}  // namespace ospnext
