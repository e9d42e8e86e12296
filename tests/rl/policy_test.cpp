// The policy's velocity and its gradients.
#include "rl/policy.h"

#include <gtest/gtest.h>

#include "core/torch/random.h"
#include "support/compare.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

constexpr double kRounding = 1e-5;  // of the largest gradient
constexpr double kScale = 3;

at::Tensor draw(at::IntArrayRef shape, const char* purpose) {
  return at::randn(shape, seeded_generator(11, purpose), at::kFloat);
}

// A sparse model whose linears have random LoRAs.
struct TrainedLora {
  Transformer transformer = random_transformer(ranks_transformer_config("dual_end"), 3);
  std::vector<at::Tensor> matrices;

  TrainedLora() {
    for (at::Tensor& parameter : transformer->parameters()) {
      parameter.set_requires_grad(false);
    }
    add_adapters(transformer, /*trainable=*/true);
    for (const auto& module : transformer->modules(/*include_self=*/false)) {
      if (auto* linear = module->as<LinearImpl>()) {
        matrices.push_back(linear->adapters[0].down);
        matrices.push_back(linear->adapters[0].up);
      }
    }
  }

  // Of a loss that is linear in the velocity, [all numbers of the LoRA].
  at::Tensor gradient(Policy& policy, const PolicyTexts& texts) {
    const at::Tensor latent = draw({2, 16, 2, 4, 6}, "latent"),
                     weights = draw({2, 16, 2, 4, 6}, "w");
    const at::Tensor velocity =
        policy.velocity(latent, {.noise_level = 0.75, .timestep = at::full({1}, 750.F)}, texts);
    (velocity * weights).sum().backward();
    std::vector<at::Tensor> rows;
    for (at::Tensor& matrix : matrices) {
      const at::Tensor& grad = matrix.mutable_grad();
      rows.push_back(grad.defined() ? grad.flatten() : at::zeros({matrix.numel()}));  // [n]
      matrix.mutable_grad() = at::Tensor();
    }
    return at::cat(rows);
  }
};

TEST(Policy, ItsVelocityHasTheGradientsOfThePassesThatTheTextsAskFor) {
  TrainedLora it;
  const TrainingRanks ranks =
      training_ranks(std::make_shared<World>(), {}, it.transformer->config(), 2);
  for (const char* recompute : {"none", "all", "attention"}) {
    Policy policy(it.transformer, {}, ranks, CheckpointingFields{.recompute = recompute}.parse());
    const at::Tensor p = draw({2, 9, 32}, "prompts"), n = draw({2, 9, 32}, "negatives");
    const auto guided = [&](bool both) {
      return it.gradient(policy,
                         {.prompts = p, .negatives = n, .scale = kScale, .both_gradients = both});
    };
    const at::Tensor one = guided(false), both = guided(true);
    const at::Tensor prompts = it.gradient(policy, {.prompts = p, .negatives = {}});
    const at::Tensor negatives = it.gradient(policy, {.prompts = n, .negatives = {}});
    EXPECT_LT(relative_max(one, kScale * prompts), kRounding) << recompute;
    EXPECT_LT(relative_max(both, one + (1 - kScale) * negatives), kRounding) << recompute;
    EXPECT_GT(relative_max(both, one), 1e-2) << recompute;
    std::printf("  recompute %s: relative error %.1e, without the negatives' %.1e\n", recompute,
                relative_max(both, one + (1 - kScale) * negatives), relative_max(one, both));
  }
}

TEST(Policy, ItsVelocityDoesNotDependOnTheGradientsThatTheTextsAskFor) {
  TrainedLora it;
  const TrainingRanks ranks =
      training_ranks(std::make_shared<World>(), {}, it.transformer->config(), 2);
  Policy policy(it.transformer, {}, ranks, {});
  const at::Tensor latent = draw({2, 16, 2, 4, 6}, "latent");
  const NoiseTime time{.noise_level = 0.75, .timestep = at::full({1}, 750.F)};
  PolicyTexts texts{.prompts = draw({2, 9, 32}, "prompts"),
                    .negatives = draw({2, 9, 32}, "negatives"),
                    .scale = kScale};
  const at::Tensor one = policy.velocity(latent, time, texts);
  texts.both_gradients = true;
  EXPECT_TRUE(at::equal(policy.velocity(latent, time, texts), one));
  EXPECT_TRUE(at::equal(policy.fixed_velocity(latent, time, texts), one));
}

}  // namespace
}  // namespace ospnext
