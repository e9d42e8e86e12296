// A training of all weights, of a part of them or of a LoRA ends with the same on any mesh, also
// when it is interrupted and goes on, on the same mesh or on another, and it is validated and shown
// alike.
#include <algorithm>
#include <cmath>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "core/name_pattern.h"
#include "core/torch/random.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/run_worlds.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "train/flow_objective.h"
#include "train/lora_training.h"
#include "train/trained_model_source.h"
#include "train/training_blocks.h"
#include "train/training_run.h"

namespace ospnext {
namespace {

constexpr int64_t kBatch = 2;
constexpr double kTolerance = 1e-4;  // relative L2 of all weights after 20 steps

TransformerConfig sparse_config() {
  TransformerConfig config = tiny_transformer_config();
  config.dim = 32;
  config.num_heads = 2;
  config.num_layers = 4;
  config.skiparse_model_type = "uniform";
  config.num_full_blocks = 0;
  return config;
}

// Random clips with rows of text, each with a generator of its own. Calls before_batch() with the
// number of each batch.
class RandomClips : public ClipSource {
 public:
  explicit RandomClips(std::function<void(int64_t)> before_batch = {})
      : before_batch_(std::move(before_batch)) {}

  ClipBatch next(const BatchPart& part) override {
    if (before_batch_) {
      before_batch_(batches_);
    }
    std::vector<at::Tensor> latents, texts;
    for (int64_t i = part.first; i < part.first + part.count; ++i) {
      const ClipBatch one = clip("clips", batches_ * part.whole + i);
      latents.push_back(one.latent);
      texts.push_back(one.text);
    }
    ++batches_;
    return {.latent = at::cat(latents), .text = at::cat(texts)};
  }
  int64_t held_out_clips() const override { return 3; }
  ClipBatch held_out(int64_t i) override { return clip("held out", i); }
  nlohmann::json state() const override { return {{"batches", batches_}}; }
  void restore(const nlohmann::json& state, const std::string& origin) override {
    batches_ = count_of_state(state, "batches", origin);
  }

 private:
  static ClipBatch clip(const char* purpose, int64_t index) {
    at::Generator generator = seeded_generator(5, purpose, index);
    const auto draw = [&](at::IntArrayRef shape) {
      return torch::randn(shape, generator, at::kFloat);
    };
    return {.latent = draw({1, 16, 2, 6, 6}), .text = draw({1, 3, 32})};
  }

  std::function<void(int64_t)> before_batch_;
  int64_t batches_ = 0;
};

enum class Trained { kAll, kPart, kLora };

struct Setting {
  int processes = 1;
  TrainingMeshFields mesh = {};
  CheckpointingFields kept = {};
  bool offload_optimizer = false;
  Trained trained = Trained::kAll;

  Setting of(Trained what) const {
    Setting other = *this;
    other.trained = what;
    return other;
  }

  FlowObjective::Options options() const {
    return {.seed = 4, .batch_size = kBatch, .levels = {.shift = 3}, .checkpointing = kept.parse()};
  }
};

// A transformer whose weights are trained, sharded as the training says.
Transformer trainee(const TransformerConfig& config, const TrainingRanks& ranks) {
  Transformer model = random_transformer(config, 3);
  for (at::Tensor& parameter : model->parameters()) {
    parameter.set_requires_grad(true);
  }
  model->shard_blocks(ranks.shards, at::kFloat);
  return model;
}

// Makes what is trained need gradients. Returns the pairs of a LoRA.
NamedTensors choose_trained(Transformer& model, Trained trained) {
  for (auto& item : model->named_parameters()) {
    const bool in_part = fits_pattern(item.key(), "blocks.2.*") ||
                         fits_pattern(item.key(), "blocks.3.*attn.*.weight");
    item.value().set_requires_grad(trained == Trained::kAll ||
                                   (trained == Trained::kPart && in_part));
  }
  if (trained != Trained::kLora) {
    return {};
  }
  LoraTrainingFields lora;
  lora.lora_rank = 4;
  lora.lora_targets = {"blocks.1.self_attn.q", "cross_attn.*", "blocks.2.ffn.*", "head"};
  const Adapter adapter = initial_adapter(lora, model->config(), /*seed=*/7, at::kCPU);
  set_adapters(model, {{&adapter, 1.0}});
  return train_adapter(adapter);
}

// Of this process, those that it keeps.
void expect_frozen_weights_unchanged(Transformer& model) {
  const Transformer initial = random_transformer(sparse_config(), 3);
  const auto& shards = model->sharded_weights().shards();
  for (const auto& item : model->named_parameters()) {
    if (item.value().requires_grad()) {
      continue;
    }
    const at::Tensor before = initial->named_parameters()[item.key()];
    if (shards.empty() || !item.key().starts_with("blocks.")) {
      EXPECT_TRUE(at::equal(item.value(), before)) << item.key();
      continue;
    }
    const size_t dot = item.key().find('.', 7);
    const WeightShard& shard =
        shards.at(std::stoul(item.key().substr(7, dot - 7))).at(item.key().substr(dot + 1));
    EXPECT_FALSE(shard.gradient.defined()) << item.key();
    EXPECT_TRUE(
        at::equal(shard.kept, before.flatten().narrow(0, shard.first, shard.kept.numel())))  // [n]
        << item.key();
  }
}

class TrainingOnRanks : public testing::Test {
 protected:
  TrainingConfig config(const std::string& name) const {
    TrainingConfig config;
    config.output = (folder_ / name).string();
    config.steps = 20;
    config.warmup_steps = 2;
    config.learning_rate = 1e-2;
    config.adaptive_clip = true;
    config.accumulate = 2;
    config.checkpoint_interval = 7;
    config.validation_interval = 10;
    return config;
  }

  // Trains in a run's folder; it is cancelled in step `until`, if that is not negative.
  void train(const std::string& name, const Setting& setting, int64_t until = -1) const {
    run_worlds(setting.processes, [&](const std::shared_ptr<World>& world) {
      const at::AutoGradMode with_gradients(true);
      const TrainingRanks ranks = training_ranks(world, setting.mesh, sparse_config(), kBatch);
      Transformer model = random_transformer(sparse_config(), 3);
      const NamedTensors pairs = choose_trained(model, setting.trained);
      model->shard_blocks(
          ranks.shards,
          setting.trained == Trained::kLora ? std::nullopt : std::make_optional(at::kFloat),
          {.offload = setting.kept.offload_weights});
      TrainedParameters parameters(pairs.empty() ? whole_parameters(model, "") : pairs, ranks,
                                   &model->sharded_weights());
      CancellationToken cancel;
      RandomClips clips([&](int64_t batch) {
        if (until >= 0 && batch >= 2 * until && world->all().rank() == 0) {
          cancel.cancel();
        }
      });
      FlowObjective objective(model, /*encoder=*/nullptr, clips, ranks, /*samples=*/nullptr,
                              setting.options());
      Progress progress(nullptr, false);
      TrainingConfig training = config(name);
      training.offload_optimizer = setting.offload_optimizer;
      TrainingRun run(training, parameters, objective, progress, cancel);
      if (until >= 0) {
        EXPECT_THROW(run.run(), Cancelled);
        EXPECT_EQ(run.step(), until + 1);
        return;
      }
      EXPECT_TRUE(run.run());
      expect_frozen_weights_unchanged(model);
      std::map<std::string, at::Tensor> values = run.ema().shadow(), result;
      for (const auto& [part, tensor] : parameters.whole(values)) {
        result["ema." + part] = tensor;
      }
      for (const TrainedTensor& one : parameters.tensors()) {
        values[one.name] = one.tensor;
      }
      for (const auto& [part, tensor] : parameters.whole(values)) {
        result["parameter." + part] = tensor;
      }
      if (ranks.work.leads()) {
        save_safetensors(folder_ / (name + ".safetensors"), result);
      }
    });
  }

  // All weights and averages at the end, in one row.
  at::Tensor end_of(const std::string& name) const {
    std::vector<at::Tensor> all;
    for (const auto& [part, tensor] : read_tensors(folder_ / (name + ".safetensors"))) {
      all.push_back(tensor.flatten());  // [n]
    }
    return at::cat(all);
  }

  // The losses on held-out clips, in the order of their steps.
  std::vector<double> validation_losses(const std::string& name) const {
    std::istringstream log(file_text(folder_ / name / "log.csv"));
    std::string line;
    std::getline(log, line);
    const std::vector<std::string> columns = words_of(line);
    const auto column = std::ranges::find(columns, "validation_loss") - columns.begin();
    std::vector<double> losses;
    while (std::getline(log, line)) {
      losses.push_back(std::stod(words_of(line).at(column)));
    }
    return losses;
  }

  static std::vector<std::string> words_of(const std::string& line) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; std::getline(in, word, ',');) {
      words.push_back(word);
    }
    return words;
  }

  const TemporaryFolder folder_;
};

const Setting kShardedSsp{4, {.data_parallel = 2, .ssp = 2, .shard_group = 4}, {"all"}};
const Setting kOffloaded{
    1, {}, {.recompute = "all", .offload_weights = true}, /*offload_optimizer=*/true};

TEST_F(TrainingOnRanks, EndsAsOnOne) {
  train("one", {});
  const at::Tensor expected = end_of("one");
  const std::vector<Setting> settings = {
      {2, {.data_parallel = 2}},
      {2, {.data_parallel = 1, .ssp = 2, .shard_group = 2}, {"attention"}},
      {2,
       {.data_parallel = 2, .shard_group = 2},
       {.recompute = "all", .offload_weights = true},
       /*offload_optimizer=*/true},
      {4, {.data_parallel = 2, .ssp = 2, .shard_group = 2}, {"1"}},
      kShardedSsp};
  for (size_t i = 0; i < settings.size(); ++i) {
    const std::string name = "mesh " + std::to_string(i);
    train(name, settings[i]);
    EXPECT_LT(relative_l2(end_of(name), expected), kTolerance) << name;
    const std::vector<double> losses = validation_losses("one"), here = validation_losses(name);
    ASSERT_EQ(here.size(), 2u) << name;  // after the steps 10 and 20
    for (size_t k = 0; k < here.size(); ++k) {
      EXPECT_NEAR(here[k] / losses.at(k), 1, kTolerance) << name;
    }
    EXPECT_GT(std::abs(here[1] / here[0] - 1), 10 * kTolerance) << "nothing was learnt";
  }
}

const Setting kTwoShards{2, {.data_parallel = 1, .ssp = 2, .shard_group = 2}, {"attention"}};

TEST_F(TrainingOnRanks, OfALoraOrAPartEndsAsOnOneAlsoInParts) {
  for (const Trained trained : {Trained::kLora, Trained::kPart}) {
    const std::string n = std::to_string(static_cast<int>(trained));
    train("one " + n, Setting().of(trained));
    train("two " + n, kTwoShards.of(trained));
    train("four " + n, kShardedSsp.of(trained));
    EXPECT_LT(relative_l2(end_of("two " + n), end_of("one " + n)), kTolerance) << n;
    EXPECT_LT(relative_l2(end_of("four " + n), end_of("one " + n)), kTolerance) << n;
    train("parts " + n, kTwoShards.of(trained), /*until=*/8);
    train("parts " + n, kTwoShards.of(trained));
    EXPECT_TRUE(at::equal(end_of("parts " + n), end_of("two " + n))) << n;
  }
}

// Also where it was interrupted and went on with its weights or its optimizer elsewhere.
TEST_F(TrainingOnRanks, EndsWithTheSameBitsOffloaded) {
  const Setting resident{.kept = {"all"}};
  const Setting optimizer{.kept = {"all"}, .offload_optimizer = true};
  const Setting weights{.kept = {.recompute = "all", .offload_weights = true}};
  train("resident", resident);
  const at::Tensor expected = end_of("resident");
  train("offloaded", kOffloaded);
  EXPECT_TRUE(at::equal(end_of("offloaded"), expected));
  train("moved", kOffloaded, /*until=*/5);
  train("moved", resident, /*until=*/8);
  train("moved", optimizer, /*until=*/12);
  train("moved", weights);
  EXPECT_TRUE(at::equal(end_of("moved"), expected));
}

TEST_F(TrainingOnRanks, GoesOnBitForBitOnTheSameMesh) {
  for (const Setting& setting : {Setting{}, kShardedSsp}) {
    const std::string n = std::to_string(setting.processes);
    train("whole " + n, setting);
    train("parts " + n, setting, /*until=*/8);
    train("parts " + n, setting, /*until=*/14);
    train("parts " + n, setting);
    EXPECT_TRUE(at::equal(end_of("parts " + n), end_of("whole " + n))) << n;
  }
}

TEST_F(TrainingOnRanks, GoesOnOnOtherMeshes) {
  train("one", {});
  train("moved", kShardedSsp, /*until=*/6);
  train("moved", {2, {.data_parallel = 2}}, /*until=*/12);
  train("moved", kShardedSsp);
  EXPECT_LT(relative_l2(end_of("moved"), end_of("one")), kTolerance);
}

// Between two sets of samples the weights change, as by a step. Weights that the first set has
// gathered ahead would spoil the second.
TEST_F(TrainingOnRanks, SampleClipsAndValidationFollowTheWeightsOnShards) {
  TransformerConfig config = ranks_transformer_config("uniform");
  config.num_layers = 4;
  write_tiny_diffusers_model(folder_ / "model", config);
  write_file(folder_ / "prompts.txt", "a red ball\na blue cube spins\none yellow star\n");
  const SampleFields fields{
      .sample_interval = 1, .sample_prompts = folder_ / "prompts.txt", .sample_format = "y4m"};
  const auto make = [&](const std::string& name, const Setting& setting) {
    run_worlds(setting.processes, [&](const std::shared_ptr<World>& world) {
      const TrainingRanks ranks = training_ranks(world, setting.mesh, config, kBatch);
      const ModelFiles files = find_model_files({.model = folder_ / "model"});
      Transformer model = trainee(config, ranks);
      const TrainedModelSource source(model, ModelFileSource(files).text_encoder({}),
                                      files.require(ModelPart::kTokenizer).weights, files);
      const CancellationToken cancel;
      SampleClips samples(fields, source, {}, ranks.sampling(), defaults_for(files, config),
                          folder_ / name, cancel);
      RandomClips clips;
      FlowObjective objective(model, nullptr, clips, ranks, &samples, setting.options());
      TrainedParameters parameters(whole_parameters(model, ""), ranks, &model->sharded_weights());
      double first_loss = 0;
      for (const int64_t step : {1, 2}) {
        objective.sample(step);
        const Scalars validation = objective.validate();
        EXPECT_EQ(objective.validate(), validation);
        EXPECT_NE(validation.at(0).second, first_loss);
        first_loss = validation.at(0).second;
        const torch::NoGradGuard no_grad;
        for (const TrainedTensor& one : parameters.tensors()) {
          one.tensor.mul_(1.5);
        }
      }
    });
  };
  make("one", {});
  make("shards", {2, {.data_parallel = 2, .shard_group = 2}});
  for (const char* file : {"1.y4m", "2.y4m", "3.y4m"}) {
    const auto difference = [&](const std::string& one, const std::string& other) {
      const std::string x = file_text(folder_ / one / file), y = file_text(folder_ / other / file);
      EXPECT_GT(x.size(), 48u * 32u * 5u);
      EXPECT_EQ(x.size(), y.size());
      int largest = 0;
      for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
        largest =
            std::max(largest, std::abs(static_cast<uint8_t>(x[i]) - static_cast<uint8_t>(y[i])));
      }
      return largest;
    };
    EXPECT_LE(difference("one/step-00000001", "shards/step-00000001"), 1) << file;
    EXPECT_LE(difference("one/step-00000002", "shards/step-00000002"), 1) << file;
    EXPECT_GT(difference("one/step-00000001", "one/step-00000002"), 1) << file;
  }
}

}  // namespace
}  // namespace ospnext
