#include "train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include "core/torch/random.h"
#include "support/compare.h"

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

// A flat tensor that decays and a matrix that does not, the reverse of what weights do.
TEST(AdamW, DecaysTheTensorsThatSaySo) {
  const at::Tensor flat = at::ones({3}), matrix = at::ones({2, 2});
  AdamW optimizer(std::vector<TrainedTensor>{{"flat", flat, /*decays=*/true},
                                             {"matrix", matrix, /*decays=*/false}},
                  {.weight_decay = 0.5});
  optimizer.step(0.1);  // the gradients are zero
  optimizer.step(0.1);
  EXPECT_TRUE(at::allclose(flat, at::full({3}, 0.95 * 0.95), 1e-6, 0));
  EXPECT_TRUE(at::equal(matrix, at::ones({2, 2})));
  EXPECT_EQ(optimizer.first_moments().size(), 2u);
}

TEST(AdamW, OfWeightsDecaysMatricesAlone) {
  const std::vector<TrainedTensor> trained = with_decaying_weights(Toy(1).named());
  ASSERT_EQ(trained.size(), 2u);
  EXPECT_EQ(trained[0].name, "weight");
  EXPECT_TRUE(trained[0].decays);
  EXPECT_EQ(trained[1].name, "bias");
  EXPECT_FALSE(trained[1].decays);
}

// A shard may be empty: a rank then owns nothing of a tensor.
TEST(AdamW, TakesFlatShards) {
  auto draw = seeded_generator(3, "shards");
  const at::Tensor whole = at::randn({5, 3}, draw);
  const at::Tensor flat = whole.flatten().clone();  // [15]
  const at::Tensor begin = flat.slice(0, 0, 4), end = flat.slice(0, 4), none = flat.slice(0, 15);
  AdamW of_whole(NamedTensors{{"p", whole}}, {});
  AdamW of_shards(
      std::vector<TrainedTensor>{{"begin", begin, true}, {"end", end, true}, {"none", none, true}},
      {});
  for (int step = 0; step < 5; ++step) {
    const at::Tensor gradient = at::randn({5, 3}, draw);
    whole.grad().copy_(gradient);
    begin.grad().copy_(gradient.flatten().slice(0, 0, 4));
    end.grad().copy_(gradient.flatten().slice(0, 4));
    of_whole.step(1e-2);
    of_shards.step(1e-2);
  }
  EXPECT_LE(relative_max(flat, whole.flatten()), 1e-6);
}

}  // namespace
}  // namespace ospnext
