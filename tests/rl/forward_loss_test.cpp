// DiffusionNFT's loss and its gradients against torch's autograd in float64
// (tools/make_rl_fixtures.py).
#include "rl/forward_loss.h"

#include <gtest/gtest.h>

#include "support/compare.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

constexpr double kRounding = 1e-12;  // of the largest value: the same operations in float64

TEST(ForwardLoss, FollowsTheFormulas) {
  const Fixture fixture("rl/forward_loss.safetensors");
  for (const auto& [name, settings] : fixture.settings.items()) {
    const auto of = [&, &name = name](const std::string& what) -> const at::Tensor& {
      return fixture.at(name + "." + what);
    };
    ForwardLossConfig config{.beta = settings.at("beta"),
                             .kl_beta = settings.at("kl_beta"),
                             .adv_clip = settings.at("adv_clip")};
    const NoisedVideos videos{of("clean"), of("noised"), settings.at("level")};
    const at::Tensor policy = of("policy").to(at::kDouble).requires_grad_();
    const ForwardLoss result =
        forward_loss(config, videos, {policy, of("old"), of("reference")}, of("advantages"));
    result.loss.backward();
    const auto same = [&](const at::Tensor& ours, const std::string& what) {
      EXPECT_LE(relative_max(ours.detach().reshape_as(of(what)), of(what)), kRounding)
          << name << " " << what;
    };
    same(result.loss, "loss");
    same(result.policy_loss, "policy_loss");
    same(result.kl, "kl");
    EXPECT_NEAR(result.change.item<double>(), of("change").item<double>(), kRounding) << name;
    same(policy.grad(), "gradient");
    config.adv_clip *= 2;
    EXPECT_GT(relative_max(forward_loss(config, videos, {policy, of("old"), {}}, of("advantages"))
                               .policy_loss.detach()
                               .reshape({1}),
                           of("policy_loss")),
              0.01)
        << name << ": a planted mistake";
  }
}

// A step against the gradient brings the policy nearer to a good video, and away from a bad one.
TEST(ForwardLoss, MovesTowardGoodVideosAndAwayFromBadOnes) {
  torch::manual_seed(1);
  const at::Tensor clean = at::randn({2, 3, 4}), noise = at::randn({2, 3, 4});
  const NoisedVideos videos{clean, 0.7 * noise + 0.3 * clean, 0.7};
  const at::Tensor old = at::zeros({2, 3, 4});
  const at::Tensor policy = old.clone().requires_grad_();
  forward_loss({}, videos, {policy, old, {}}, at::tensor({1.0, -1.0})).loss.backward();
  const at::Tensor apart = ((policy.grad() * (noise - clean)).flatten(1)).sum(1);  // [2]
  EXPECT_LT(apart[0].item<double>(), 0);
  EXPECT_GT(apart[1].item<double>(), 0);
}

TEST(ForwardLoss, HasNoGradientForAnAverageVideoAtTheFirstUpdate) {
  torch::manual_seed(1);
  const at::Tensor clean = at::randn({1, 3, 4}), old = at::randn({1, 3, 4});
  const NoisedVideos videos{clean, at::randn({1, 3, 4}), 0.5};
  const at::Tensor policy = old.clone().requires_grad_();
  const ForwardLoss result = forward_loss({}, videos, {policy, old, {}}, at::zeros({1}));
  result.loss.backward();
  EXPECT_EQ(policy.grad().abs().max().item<double>(), 0);
  EXPECT_EQ(result.change.item<double>(), 0);
}

}  // namespace
}  // namespace ospnext
