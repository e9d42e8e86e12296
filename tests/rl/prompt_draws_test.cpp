// Draws of prompts against torch (tools/make_rl_fixtures.py), and the noise of rollouts.
#include "rl/prompt_draws.h"

#include <gtest/gtest.h>

#include <map>

#include "core/error.h"
#include "support/compare.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

TEST(PromptDraws, AreThoseOfTheReference) {
  const Fixture fixture("rl/schedules.safetensors");
  const auto& cases = fixture.settings.at("prompts");
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto& [prompts, parts, batch, group, seed, round] =
        cases.at(i).get<std::tuple<int64_t, int64_t, int64_t, int64_t, uint64_t, int64_t>>();
    const auto draws = draw_prompts({prompts, parts, batch, group, seed}, round);
    const at::Tensor expected = fixture.at("prompts_" + std::to_string(i)).flatten();  // [n]
    ASSERT_EQ(static_cast<int64_t>(draws.size()), expected.size(0));
    std::map<int64_t, std::vector<int64_t>> samples;
    for (size_t j = 0; j < draws.size(); ++j) {
      EXPECT_EQ(draws[j].prompt, expected[static_cast<int64_t>(j)].item<int64_t>()) << i;
      samples[draws[j].prompt].push_back(draws[j].sample);
    }
    EXPECT_EQ(static_cast<int64_t>(samples.size()), parts * batch / group);
    for (const auto& [prompt, numbers] : samples) {
      ASSERT_EQ(static_cast<int64_t>(numbers.size()), group);
      for (int64_t k = 0; k < group; ++k) {
        EXPECT_EQ(numbers[static_cast<size_t>(k)], k);
      }
    }
  }
}

TEST(PromptDraws, RefuseGroupsThatDoNotFit) {
  const auto refuses = [](const PromptSampling& sampling, const std::string& part) {
    try {
      draw_prompts(sampling, 0);
      ADD_FAILURE() << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refuses({10, 2, 3, 4, 1},
          "`group_size`: found 4, expected a divisor of the videos of a batch, 6");
  refuses({2, 2, 6, 4, 1}, "`prompts`: found 2 prompts, expected at least 3");
  refuses({2, 2, 6, 1, 1}, "`group_size`: found 1");
  refuses({2, 2, 0, 4, 1}, "`sample_batch_size`: found 0");
}

TEST(RolloutNoise, DependsOnItsPlaceAlone) {
  const NoisePlace place{.seed = 5, .round = 3, .draw = {7, 1}};
  const at::Tensor noise = rollout_noise(place, 2, {16, 2, 4, 4});
  EXPECT_TRUE(same_bits(noise, rollout_noise(place, 2, {16, 2, 4, 4})));
  EXPECT_EQ(noise.scalar_type(), at::kFloat);
  std::vector<at::Tensor> others = {rollout_noise(place, 3, {16, 2, 4, 4}),
                                    rollout_start(place, {16, 2, 4, 4}),
                                    forward_noise(place, 2, {16, 2, 4, 4})};
  for (const NoisePlace& other :
       {NoisePlace{6, 3, {7, 1}}, NoisePlace{5, 4, {7, 1}}, NoisePlace{5, 3, {8, 1}},
        NoisePlace{5, 3, {7, 2}}, NoisePlace{5, 7, {3, 1}}, NoisePlace{5, 3, {1, 7}}}) {
    others.push_back(rollout_noise(other, 2, {16, 2, 4, 4}));
  }
  for (const at::Tensor& other : others) {
    const double product = (noise * other).mean().item<double>();
    EXPECT_LT(std::abs(product), 0.2);  // 4.5 deviations of 512 independent products
  }
  EXPECT_NEAR(noise.std().item<double>(), 1, 0.15);
}

}  // namespace
}  // namespace ospnext
