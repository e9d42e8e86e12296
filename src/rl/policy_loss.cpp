#include "rl/policy_loss.h"

#include "core/number_check.h"
#include "core/torch/shape_check.h"

namespace ospnext {

void PolicyLossConfig::check() const {
  check_range("`clip`", clip, 1e-9, 1.0);
  check_range("`kl_beta`", kl_beta, 0.0, 1e6);
  check_range("`adv_clip`", adv_clip, 1e-6, 1e6);
}

PolicyLoss policy_loss(const PolicyLossConfig& config, const at::Tensor& log_prob,
                       const at::Tensor& old_log_prob, const at::Tensor& advantages,
                       const ReferencedMeans& means) {
  CHECK_SHAPE(log_prob, advantages.size(0));
  CHECK_SHAPE(old_log_prob, advantages.size(0));
  const at::Tensor change = log_prob.to(at::kDouble) - old_log_prob.detach().to(at::kDouble);
  const at::Tensor advantage =
      advantages.detach().to(at::kDouble).clamp(-config.adv_clip, config.adv_clip);

  PolicyLoss result;
  result.ratio = change.exp();
  const at::Tensor bounded = result.ratio.clamp(1 - config.clip, 1 + config.clip);
  result.policy_loss = at::max(-advantage * result.ratio, -advantage * bounded).mean();
  result.kl = at::zeros_like(result.policy_loss);
  if (means.policy.defined()) {
    TORCH_CHECK(means.std > 0, "policy_loss: std ", means.std);
    const at::Tensor apart =
        means.policy.to(at::kDouble) - means.reference.detach().to(at::kDouble);
    result.kl = apart.square().mean() / (2 * means.std * means.std);
  }
  result.loss = result.policy_loss + config.kl_beta * result.kl;
  result.approx_kl = change.detach().square().mean() / 2;
  const at::Tensor outside = (result.ratio.detach() - 1).abs() > config.clip;
  result.clip_fraction = outside.to(at::kDouble).mean();
  return result;
}

}  // namespace ospnext
