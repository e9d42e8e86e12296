// Trainings of the shipped model that change a LoRA or a part of its weights, and what is made of
// their checkpoints.
#include <gtest/gtest.h>

#include <map>

#include "io/readers/bounded_json.h"
#include "io/weights.h"
#include "packages/load_adapter.h"
#include "packages/load_model.h"
#include "support/paths.h"
#include "support/temporary_folder.h"
#include "train/checkpoint_model.h"
#include "train/flow_training.h"
#include "train/training_checkpoint.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class TrainedPartTest : public testing::Test {
 protected:
  FlowTrainingConfig training(const std::string& name) const {
    FlowTrainingConfig config;
    config.output = (folder_ / name).string();
    config.initial_model = source_path("models/tiny");
    config.tokenizer = config.initial_model + "/tokenizer/spiece.model";
    config.vae = config.initial_model + "/vae";
    config.generation_config = config.initial_model + "/generation_config.json";
    config.latent_cache = (folder_ / "cache.safetensors").string();
    config.sizes = {"32x32"};
    config.clips = 2;
    config.batch_size = 2;
    config.steps = 2;
    config.warmup_steps = 0;
    config.log_interval = 1;
    return config;
  }
  bool train(const FlowTrainingConfig& config) { return train_flow(config, progress_, cancel_); }
  StoredCheckpoint checkpoint(const FlowTrainingConfig& config) const {
    return StoredCheckpoint(*newest_checkpoint(fs::path(config.output) / "checkpoints"));
  }
  void expect_refusal(const FlowTrainingConfig& config, const std::string& part) {
    try {
      train(config);
      ADD_FAILURE() << "expected a refusal: " << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  const TemporaryFolder folder_;
  Progress progress_{nullptr, false};
  CancellationToken cancel_;
};

std::map<std::string, at::Tensor> tensors_in(const fs::path& folder) {
  return read_tensors(folder / "adapter_model.safetensors");
}

bool equal(const std::map<std::string, at::Tensor>& a, const std::map<std::string, at::Tensor>& b) {
  return std::ranges::equal(a, b, [](const auto& one, const auto& other) {
    return one.first == other.first && at::equal(one.second, other.second);
  });
}

TEST_F(TrainedPartTest, OfALoraIsItsPairs) {
  FlowTrainingConfig config = training("run");
  config.lora.lora_rank = 2;
  config.lora.lora_targets = {"blocks.*.self_attn.q", "head"};
  ASSERT_TRUE(train(config));
  const fs::path lora = fs::path(config.output) / "lora";
  const ModelFiles files = find_model_files({.model = config.initial_model});
  const Adapter adapter =
      load_adapter(lora, read_transformer_config(files.require(ModelPart::kTransformer)));
  EXPECT_EQ(adapter.changes.size(), 13U);
  for (const auto& [layer, change] : adapter.changes) {
    EXPECT_EQ(change.factor, 2) << layer;  // alpha is twice the rank
    EXPECT_LE(change.down.abs().max().item<double>(), 1 / 16.0 + 0.01) << layer;  // 1/√in
    EXPECT_GT(change.down.abs().max().item<double>(), 0.5 / 16.0) << layer;
    EXPECT_GT(change.up.abs().max().item<double>(), 0) << layer;
  }
  EXPECT_FALSE(fs::exists(fs::path(config.output) / "model"));

  convert_lora_checkpoint(checkpoint(config), TrainedWeights::kAveraged, std::nullopt,
                          folder_ / "ema");
  convert_lora_checkpoint(checkpoint(config), TrainedWeights::kRaw, std::nullopt, folder_ / "raw");
  EXPECT_TRUE(equal(tensors_in(folder_ / "ema"), tensors_in(lora)));
  EXPECT_FALSE(equal(tensors_in(folder_ / "raw"), tensors_in(lora)));
  EXPECT_EQ(read_json_file(folder_ / "raw" / "adapter_config.json"),
            read_json_file(lora / "adapter_config.json"));

  // The checkpoint is only for the same LoRA.
  FlowTrainingConfig other = config;
  other.lora.lora_alpha = 3;
  expect_refusal(other,
                 "the ranks, alphas and noise levels of its LoRA, are not those of this training");
  other.lora = {};
  other.lora.lora_rank = 2;
  expect_refusal(other, "is missing or has another shape");

  // A training that begins with the LoRA moves on from its values.
  FlowTrainingConfig more = training("more");
  more.lora.initial_lora = lora.string();
  more.steps = 1;
  more.learning_rate = 1e-12;
  more.adamw.weight_decay = 0;
  ASSERT_TRUE(train(more));
  const auto before = tensors_in(lora), after = tensors_in(fs::path(more.output) / "lora");
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, tensor] : before) {
    EXPECT_TRUE(at::allclose(after.at(name), tensor, 0, 1e-9)) << name;
  }
}

// The weights of a model by the names of a checkpoint, in bf16.
std::map<std::string, at::Tensor> weights_of(const fs::path& model) {
  const ModelFiles files = find_model_files({.model = model});
  const ComputeOptions masters{.hif8 = Hif8Use::kNowhere};
  std::map<std::string, at::Tensor> weights;
  const auto take = [&](const torch::nn::Module& module, const std::string& prefix) {
    for (const auto& item : module.named_parameters()) {
      weights[prefix + item.key()] = item.value().detach().to(at::kBFloat16);
    }
  };
  take(*load_transformer(files.require(ModelPart::kTransformer), masters), kTransformerPrefix);
  take(*load_text_encoder(files.require(ModelPart::kTextEncoder), masters), kTextEncoderPrefix);
  return weights;
}

TEST_F(TrainedPartTest, LeavesTheOtherWeightsBitForBit) {
  FlowTrainingConfig config = training("run");
  config.trained = {"transformer.blocks.1*.self_attn.*", "text_encoder.norm.weight"};
  config.checkpointing.recompute = "all";
  config.learning_rate = 1e-2;
  ASSERT_TRUE(train(config));
  const auto before = weights_of(config.initial_model);
  const auto after = weights_of(fs::path(config.output) / "model");
  ASSERT_EQ(before.size(), after.size());
  const StoredCheckpoint stored = checkpoint(config);
  size_t trained = 0;
  for (const auto& [name, weight] : before) {
    const bool changes = stored.shapes().contains(name);
    EXPECT_EQ(at::equal(weight, after.at(name)), !changes) << name;
    EXPECT_EQ(changes,
              name == "text_encoder.norm.weight" || (name.starts_with("transformer.blocks.1") &&
                                                     name.find(".self_attn.") != std::string::npos))
        << name;
    trained += changes ? 1 : 0;
  }
  EXPECT_EQ(trained, 1 + 3 * 10U);  // blocks 1, 10, 11: q, k, v, o with biases, and two norms

  const Conversion as_trained{.dtype = std::nullopt, .max_shard_bytes = int64_t{1} << 30};
  ModelFields base;
  base.model = config.initial_model;
  convert_checkpoint(stored, TrainedWeights::kAveraged, base, as_trained, folder_ / "ema",
                     progress_, cancel_);
  EXPECT_TRUE(equal(weights_of(folder_ / "ema"), after));
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"cache.safetensors", "ema", "run"}));
  try {
    convert_checkpoint(stored, TrainedWeights::kRaw, ModelFields(), as_trained, folder_ / "raw",
                       progress_, cancel_);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("expected the model that the training began with"),
              std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(fs::exists(folder_ / "raw"));
}

TEST_F(TrainedPartTest, IsNoLoraForSomeNoiseLevelsAlone) {
  FlowTrainingConfig config = training("run");
  const ModelFiles files = find_model_files({.model = config.initial_model});
  const int64_t C = read_transformer_config(files.require(ModelPart::kTransformer)).dim;
  fs::create_directories(folder_ / "lora");
  const std::string layer = "base_model.model.blocks.0.self_attn.q";
  save_safetensors(
      folder_ / "lora/adapter_model.safetensors",
      {{layer + ".lora_A.weight", at::ones({1, C})}, {layer + ".lora_B.weight", at::ones({C, 1})}});
  write_file(folder_ / "lora/adapter_config.json",
             R"({"lora_alpha": 1, "lowest_noise_level": 0.9})");
  config.lora.initial_lora = (folder_ / "lora").string();
  expect_refusal(config,
                 "`initial_lora`: acts at noise levels from 0.900000 on alone, expected a LoRA for "
                 "all levels");
}

TEST_F(TrainedPartTest, IsRefusedWhereNothingFits) {
  FlowTrainingConfig config = training("run");
  config.trained = {"transformer.*", "blocks.0.self_attn.q"};
  expect_refusal(config, "`trained`: found \"blocks.0.self_attn.q\", which fits none of the");
  config.trained = {};
  config.lora.lora_rank = 2;
  config.lora.lora_targets = {"self_attn.q", "attn.q"};
  expect_refusal(config, "`lora_targets`: found \"attn.q\", which fits none of the");
  config.trained = {"transformer.*"};
  expect_refusal(config, "`trained`: found with a LoRA");
  config.trained = {};
  config.insert_blocks = {3};
  expect_refusal(config, "`insert_blocks`: found with frozen weights");
  config.insert_blocks = {};
  config.initial_model = "";
  expect_refusal(config, "`lora_rank`: found no `initial_model`");
  config.lora = {};
  config.trained = {"transformer.*"};
  expect_refusal(config, "`trained`: found no `initial_model`");
  config = training("run");
  config.lora.lora_alpha = 2;
  expect_refusal(config, "`lora_rank`: found 0 with `lora_alpha`");
  config.lora.initial_lora = "x.safetensors";
  expect_refusal(config, "`initial_lora`: found with `lora_rank`, `lora_alpha`");
  config.lora = {};
  config.lora.lora_rank = -1;
  expect_refusal(config, "`lora_rank`: found -1, expected 0 to 65536");
  EXPECT_FALSE(fs::exists(config.output));
}

}  // namespace
}  // namespace ospnext
