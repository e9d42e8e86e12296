// The policy's loss and its gradients against torch's autograd in float64
// (tools/make_rl_fixtures.py).
#include "rl/policy_loss.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/fields.h"
#include "support/compare.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

constexpr double kSame = 1e-12;  // of the largest value: the same operations in float64

TEST(PolicyLoss, FollowsTheFormulas) {
  const Fixture fixture("rl/policy_loss.safetensors");
  for (const auto& [name, settings] : fixture.settings.items()) {
    const auto of = [&, &name = name](const std::string& what) -> const at::Tensor& {
      return fixture.at(name + "." + what);
    };
    nlohmann::json fields = settings;
    const double parts = fields["sde_steps"].get<double>() * fields["accumulate"].get<double>();
    fields.erase("sde_steps");
    fields.erase("accumulate");
    PolicyLossConfig config;
    fields_from_json(config, fields, name);
    const at::Tensor log_prob = of("log_prob").to(at::kDouble).requires_grad_();
    const at::Tensor mean = of("mean").to(at::kDouble).requires_grad_();
    const PolicyLoss result = policy_loss(config, log_prob, of("old_log_prob"), of("advantages"),
                                          {mean, of("reference_mean"), of("std").item<float>()});
    (result.loss / parts).backward();
    const auto same = [&](const at::Tensor& ours, const std::string& what) {
      EXPECT_LE(relative_max(ours.detach().reshape_as(of(what)), of(what)), kSame)
          << name << " " << what;
    };
    same(result.loss / parts, "loss");
    same(result.policy_loss, "policy_loss");
    same(result.kl, "kl");
    same(result.approx_kl, "approx_kl");
    same(result.clip_fraction, "clip_fraction");
    same(result.ratio, "ratio");
    same(log_prob.grad(), "gradient.log_prob");
    if (config.kl_beta > 0) {
      same(mean.grad(), "gradient.mean");
    }
    config.clip /= 2;
    EXPECT_NE(policy_loss(config, log_prob, of("old_log_prob"), of("advantages"), {})
                  .clip_fraction.item<double>(),
              of("clip_fraction").item<double>())
        << name << ": a planted mistake";
  }
}

TEST(PolicyLoss, HasARatioOfExactlyOneAtTheFirstUpdate) {
  torch::manual_seed(1);
  const at::Tensor log_prob = at::randn({64}, at::kDouble);
  const at::Tensor now = log_prob.clone().requires_grad_();
  const at::Tensor advantages = at::randn({64});
  const PolicyLoss result = policy_loss({}, now, log_prob, advantages, {});
  EXPECT_TRUE(result.ratio.eq(1).all().item<bool>());
  EXPECT_EQ(result.clip_fraction.item<double>(), 0);
  result.loss.backward();
  EXPECT_LE(relative_max(now.grad(), -advantages.to(at::kDouble) / 64), kSame);
}

TEST(PolicyLoss, GivesNoGradientBeyondTheClip) {
  const at::Tensor log_prob = at::tensor({0.5, -0.5}, at::kDouble).requires_grad_();
  const at::Tensor old = at::zeros({2}, at::kDouble);
  policy_loss({.clip = 0.1}, log_prob, old, at::tensor({1.0, -1.0}), {}).loss.backward();
  EXPECT_TRUE(log_prob.grad().eq(0).all().item<bool>());
}

TEST(PolicyLossConfig, NamesTheFieldThatIsOutOfRange) {
  for (const auto& [config, part] : {std::pair(PolicyLossConfig{.clip = 0}, "`clip`: found 0.0"),
                                     std::pair(PolicyLossConfig{.kl_beta = -1}, "`kl_beta`"),
                                     std::pair(PolicyLossConfig{.adv_clip = NAN}, "`adv_clip`")}) {
    try {
      config.check();
      ADD_FAILURE() << part;
    } catch (const InputError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(part)) << error.what();
    }
  }
}

}  // namespace
}  // namespace ospnext
