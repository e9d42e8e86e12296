#include "train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include "core/torch/random.h"

namespace ospnext {
namespace {

// A linear layer and a quadratic loss; `seed` fixes the weights.
struct Toy {
  explicit Toy(uint64_t seed) {
    auto draw = seeded_generator(seed, "toy");
    weight = at::randn({5, 4}, draw).requires_grad_(true);
    bias = at::randn({5}, draw).requires_grad_(true);
    x = at::randn({7, 4}, draw);
  }
  at::Tensor loss() const { return at::linear(x, weight, bias).square().mean(); }
  NamedTensors named() const { return {{"weight", weight}, {"bias", bias}}; }

  at::Tensor weight, bias, x;
};

TEST(AdamW, FollowsTorchOptimAdamW) {
  Toy ours(1), theirs(1);
  AdamW optimizer(ours.named(),
                  {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1});
  const auto options = torch::optim::AdamWOptions(1e-2).betas({0.9, 0.95}).eps(1e-8);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<at::Tensor>{theirs.weight},
                      std::make_unique<torch::optim::AdamWOptions>(
                          torch::optim::AdamWOptions(options).weight_decay(0.1)));
  groups.emplace_back(std::vector<at::Tensor>{theirs.bias},
                      std::make_unique<torch::optim::AdamWOptions>(
                          torch::optim::AdamWOptions(options).weight_decay(0.0)));
  torch::optim::AdamW reference(groups, options);
  for (int step = 0; step < 20; ++step) {
    ours.loss().backward();
    optimizer.step(1e-2);
    optimizer.zero_grad();
    reference.zero_grad();
    theirs.loss().backward();
    reference.step();
  }
  EXPECT_TRUE(at::allclose(ours.weight, theirs.weight, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(ours.bias, theirs.bias, 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(ours.weight, Toy(1).weight, 1e-5, 1e-6)) << "nothing was learnt";
}

TEST(AdamW, ClipsTheNormOfAllGradientsTogether) {
  Toy toy(2);
  AdamW optimizer(toy.named(), {});
  toy.loss().backward();
  const auto norm_of = [&] {
    return at::cat({toy.weight.grad().flatten(), toy.bias.grad()}).norm().item<double>();
  };
  const double before = norm_of();
  EXPECT_NEAR(optimizer.clip_gradients(1e3).item<double>(), before, 1e-5 * before);
  EXPECT_NEAR(norm_of(), before, 1e-5 * before);
  optimizer.clip_gradients(before / 4);
  EXPECT_NEAR(norm_of(), before / 4, 1e-4 * before);
}

TEST(WarmupCosine, RisesThenFallsToItsLastFraction) {
  EXPECT_DOUBLE_EQ(warmup_cosine(0, 10, 110, 2.0, 0.1), 0.2);
  EXPECT_DOUBLE_EQ(warmup_cosine(9, 10, 110, 2.0, 0.1), 2.0);
  EXPECT_NEAR(warmup_cosine(60, 10, 110, 2.0, 0.1), 1.1, 1e-12);
  EXPECT_NEAR(warmup_cosine(110, 10, 110, 2.0, 0.1), 0.2, 1e-12);
  EXPECT_NEAR(warmup_cosine(500, 10, 110, 2.0, 0.1), 0.2, 1e-12);
}

}  // namespace
}  // namespace ospnext
