// Reinforcement learning of a small model: ratios, resuming, what it writes, what it refuses.
#include "rl/policy_training.h"

#include <gtest/gtest.h>

#include <numeric>

#include "io/readers/bounded_json.h"
#include "io/weights.h"
#include "rl/small_grpo.h"

namespace ospnext {
namespace {

std::map<std::string, at::Tensor> lora_of(const RlConfig& config) {
  return read_tensors(std::filesystem::path(config.output) / "lora/adapter_model.safetensors");
}

void expect_equal(const std::map<std::string, at::Tensor>& a,
                  const std::map<std::string, at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;
  }
}

TEST(PolicyTraining, RatiosOfTheFirstUpdateAreOne) {
  for (const char* type : {"full", "dual_end"}) {
    const SmallGrpo it(type);
    for (const char* precision : {"float32", "bf16", "hif8-simulated"}) {
      for (const double guidance : {1.0, 3.0}) {
        RlConfig config = it.config(std::string(precision) + std::to_string(guidance));
        config.precision = precision;
        config.rollout.guidance_scale = guidance;
        config.epochs = 1;
        EXPECT_TRUE(train_quietly(config));
        EXPECT_EQ(log_column(config.output, "ratio_distance").at(0), 0)
            << type << precision << guidance;
      }
    }
  }
}

TEST(PolicyTraining, OldProbabilitiesAreReplayedInTheShapeOfTheUpdate) {
  const SmallGrpo it;
  RlConfig config = it.config("replayed");
  config.update.train_batch_size = 2;
  config.epochs = 1;
  EXPECT_TRUE(train_quietly(config));
  EXPECT_EQ(log_column(config.output, "ratio_distance").at(0), 0);
}

TEST(PolicyTraining, RatiosAreOneWhereCellsShareTheirNoise) {
  const SmallGrpo it;
  for (const int64_t batch : {4, 2}) {  // probabilities of the rollouts, and replayed ones
    RlConfig config = it.config("cells " + std::to_string(batch));
    config.rollout.noise_frames = 2;  // of a latent of 2 x 4 x 6
    config.rollout.noise_side = 2;
    config.update.train_batch_size = batch;
    config.epochs = 1;
    EXPECT_TRUE(train_quietly(config));
    EXPECT_EQ(log_column(config.output, "ratio_distance").at(0), 0);
    EXPECT_GT(log_column(config.output, "ratio_distance").at(1), 0);
    EXPECT_GT(log_column(config.output, "kl_loss").at(1), 0);
  }
}

TEST(PolicyTraining, LearnsFromNoisedVideosWithNft) {
  const SmallGrpo it;
  for (const int64_t batch : {4, 2}) {  // that of the rollouts, and another
    RlConfig config = it.config("nft " + std::to_string(batch));
    config.rollout.window.algorithm = "nft";
    config.update.train_batch_size = batch;
    config.update.timestep_fraction = 0.5;
    EXPECT_TRUE(train_quietly(config));
    const std::vector<double> changes = log_column(config.output, "velocity_change");
    const std::vector<double> reference = log_column(config.output, "kl_loss");
    ASSERT_EQ(changes.size(), static_cast<size_t>(16 / batch));
    const size_t second_epoch = changes.size() / 2;
    EXPECT_EQ(changes[0], 0);
    EXPECT_EQ(reference[0], 0);
    EXPECT_EQ(changes[second_epoch], 0);
    EXPECT_GT(changes[1], 0);
    EXPECT_GT(reference[second_epoch], 0);
  }
}

TEST(PolicyTraining, NftNoisesTheVideosAnewInEachPass) {
  const SmallGrpo it;
  RlConfig config = it.config("passes");
  config.rollout.window.algorithm = "nft";
  config.rollout.guidance_in_update = false;
  config.update.train_batch_size = 2;
  config.update.inner_epochs = 2;
  config.epochs = 1;
  config.update.learning_rate = 1e-12;  // so that only the noise can change the loss
  EXPECT_TRUE(train_quietly(config));
  const std::vector<double> losses = log_column(config.output, "policy_loss");
  ASSERT_EQ(losses.size(), 8u);
  const double first = std::accumulate(losses.begin(), losses.begin() + 4, 0.0);
  const double second = std::accumulate(losses.begin() + 4, losses.end(), 0.0);
  EXPECT_GT(std::abs(second / first - 1), 1e-4);
  EXPECT_LT(std::abs(second / first - 1), 0.2);
  for (const double change : log_column(config.output, "velocity_change")) {
    EXPECT_LT(change, 1e-12);
  }
}

TEST(PolicyTraining, ChangesThePolicy) {
  const SmallGrpo it;
  const RlConfig config = it.config("changes");
  EXPECT_TRUE(train_quietly(config));
  const std::vector<double> distances = log_column(config.output, "ratio_distance");
  ASSERT_EQ(distances.size(), 4u);
  EXPECT_EQ(distances[0], 0);
  EXPECT_GT(distances[1], 0);  // of the second update of an epoch
  double norm = 0;
  for (const auto& [name, tensor] : lora_of(config)) {
    norm += name.find("lora_B") != std::string::npos ? tensor.norm().item<double>() : 0;
  }
  EXPECT_GT(norm, 0);
}

TEST(PolicyTraining, GoesOnBitForBit) {
  const SmallGrpo it;
  for (const std::string algorithm : {"osp", "mix", "nft"}) {
    RlConfig whole = it.config("whole " + algorithm);
    whole.rollout.window.algorithm = algorithm;
    if (algorithm != "nft") {
      whole.rollout.sde_kind = whole.update.advantages = algorithm;
    }
    whole.rollout.window.window_iterations = 1;
    EXPECT_TRUE(train_quietly(whole));
    RlConfig parts = whole;
    parts.output = it.folder() / ("parts " + algorithm);
    parts.max_seconds = 1e-9;  // ends after each epoch
    EXPECT_FALSE(train_quietly(parts));
    EXPECT_TRUE(train_quietly(parts));
    expect_equal(lora_of(whole), lora_of(parts));
  }
}

// The levels are 1, 0.75, 0.5 and 0.25; the first two steps are trained.
RlConfig at_high_noise(const SmallGrpo& it, const std::string& name, double level) {
  RlConfig config = it.config(name);
  config.lora.lora_targets = {"self_attn.*", "cross_attn.q", "cross_attn.o", "ffn.*"};
  config.lowest_noise_level = level;
  config.epochs = 1;
  return config;
}

TEST(PolicyTraining, ALoraForHighNoiseIsTrainedWhereItActs) {
  const SmallGrpo it;
  const auto level_written = [](const RlConfig& config) {
    return read_json_file(std::filesystem::path(config.output) / "lora/adapter_config.json")
        .at("lowest_noise_level")
        .get<double>();
  };
  for (const double level : {0.7, 0.75}) {
    const RlConfig config = at_high_noise(it, "noisy " + std::to_string(level), level);
    EXPECT_TRUE(train_quietly(config));
    const std::vector<double> distances = log_column(config.output, "ratio_distance");
    ASSERT_EQ(distances.size(), 2u);
    EXPECT_EQ(distances[0], 0);
    EXPECT_GT(distances[1], 0);
    EXPECT_EQ(level_written(config), level);
  }
  RlConfig more = it.config("more");  // keeps the level of the LoRA that it begins with
  more.lora.initial_lora = it.folder() / "noisy 0.750000/lora";
  more.epochs = 1;
  EXPECT_TRUE(train_quietly(more));
  EXPECT_EQ(log_column(more.output, "ratio_distance").at(0), 0);
  EXPECT_EQ(level_written(more), 0.75);
}

TEST(PolicyTraining, TheLevelOfALoraIsThatOfAStepAsFloat32HoldsIt) {
  const SmallGrpo it;
  RlConfig config = at_high_noise(it, "rounded", 0.9);  // float32 has 0.89999998
  config.rollout.steps = 10;
  EXPECT_TRUE(train_quietly(config));
  EXPECT_GT(log_column(config.output, "ratio_distance").at(1), 0);
}

TEST(PolicyTraining, ALoraNeedNotActInANoisyStepThatIsNotTrained) {
  const SmallGrpo it;
  RlConfig config = at_high_noise(it, "fraction", 0.8);  // the second noisy step is at 0.75
  config.update.timestep_fraction = 0.5;
  EXPECT_TRUE(train_quietly(config));
  EXPECT_GT(log_column(config.output, "ratio_distance").at(1), 0);
}

TEST(PolicyTraining, TrainsAllWeightsBesideAFrozenReference) {
  const SmallGrpo it;
  RlConfig config = it.config("all weights");
  config.lora = {};
  config.epochs = 1;
  EXPECT_TRUE(train_quietly(config));
  EXPECT_TRUE(std::filesystem::exists(std::filesystem::path(config.output) / "model"));
  EXPECT_EQ(log_column(config.output, "ratio_distance")[0], 0);
  EXPECT_EQ(log_column(config.output, "kl_loss")[0], 0);  // the reference is the same model
}

TEST(PolicyTraining, OffloadedWeightsChangeNoBit) {
  const SmallGrpo it;
  for (const bool is_lora : {true, false}) {
    RlConfig here = it.config(is_lora ? "lora here" : "all here");
    here.epochs = 1;
    here.lora = is_lora ? here.lora : LoraTrainingFields();
    RlConfig offloaded = here;
    offloaded.output = it.folder() / (is_lora ? "lora offloaded" : "all offloaded");
    offloaded.checkpointing.offload_weights = true;
    EXPECT_TRUE(train_quietly(here));
    EXPECT_TRUE(train_quietly(offloaded));
    for (const char* column : {"loss", "gradient_norm", "ratio_distance"}) {
      const std::vector<double> values = log_column(here.output, column);
      ASSERT_EQ(values.size(), 2u);
      EXPECT_EQ(values, log_column(offloaded.output, column)) << is_lora << column;
    }
  }
}

// The message with which a training is refused.
std::string refusal(const RlConfig& config) {
  try {
    train_quietly(config);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void expect(const std::string& text, const char* part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(PolicyTraining, RefusesALoraThatDoesNotActInEachTrainedStep) {
  const SmallGrpo it;
  const auto refused = [&](double level, const auto& change) {
    RlConfig config = at_high_noise(it, "refused", level);
    change(config);
    return refusal(config);
  };
  const auto as_it_is = [](const RlConfig&) {};
  expect(refused(0.8, as_it_is),
         "`lowest_noise_level`: found 0.800000, expected at most 0.750000, the noise level of step "
         "2, the last one that is trained");
  expect(refused(0.7, [](auto& config) { config.rollout.window.algorithm = "nft"; }),
         "expected at most 0.250000, the noise level of step 4");
  expect(refused(2, as_it_is), "`lowest_noise_level`: found 2");
  expect(refused(-0.1, as_it_is), "`lowest_noise_level`: found -0.1");
  expect(refused(0.7, [](auto& config) { config.lora = {.initial_lora = "lora"}; }),
         "`lowest_noise_level`: found with `initial_lora`, which has its own");
  expect(refused(0.7, [](auto& config) { config.lora = {}; }),
         "`lowest_noise_level`: found without a LoRA");
  expect(
      refused(0.7, [](auto& config) { config.lora.lora_targets = RlConfig().lora.lora_targets; }),
      "`lora_targets`: found \"blocks.0.cross_attn.k\" with `lowest_noise_level`");
  for (const std::string layer : {"cross_attn.k", "cross_attn.v", "time_embedding.0", "head"}) {
    expect(refused(0.7, [&](auto& config) { config.lora.lora_targets.push_back(layer); }),
           (layer + "\" with `lowest_noise_level`, expected pairs of matrices for").c_str());
  }
}

TEST(PolicyTraining, RefusesBatchesThatDoNotFit) {
  const SmallGrpo it;
  const auto refused = [&](const auto& change) {
    RlConfig config = it.config("refused");
    change(config);
    return refusal(config);
  };
  expect(refused([](auto& config) { config.rollout.group_size = 3; }), "`group_size`: found 3");
  expect(refused([](auto& config) { config.update.train_batch_size = 3; }),
         "`train_batch_size`: found 3");
  expect(refused([](auto& config) { config.update.accumulate = 3; }), "`accumulate` 3");
  expect(refused([](auto& config) { config.rollout.noise_frames = 3; }),
         "`noise_frames`: found 3, expected a divisor of the 2 frames of the latent");
  expect(refused([](auto& config) { config.rollout.noise_side = 4; }),
         "`noise_side`: found 4, expected a divisor of the 6 columns of the latent");
  expect(refused([](auto& config) { config.rollout.noise_side = 0; }), "`noise_side`: found 0");
  expect(refused([](auto& config) { config.reward = {"beauty"}; }), "`reward`");
  expect(refused([](auto& config) { config.prompts = "/none"; }), "/none");
}

}  // namespace
}  // namespace ospnext
