// A training ends with the same weights on any mesh, also when it is interrupted and goes on, on
// the same mesh or on another.
#include <string>
#include <vector>

#include "core/torch/random.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/run_worlds.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"
#include "train/flow_matching.h"
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

FlowSamples samples_of(int64_t pass, int64_t begin, int64_t count) {
  at::Generator generator = seeded_generator(5, "samples", pass);
  const auto draw = [&](at::IntArrayRef shape) {
    return torch::randn(shape, generator, at::kFloat).narrow(0, begin, count);
  };
  return {.latent = draw({kBatch, 16, 2, 6, 6}),
          .noise = draw({kBatch, 16, 2, 6, 6}),
          .sigma = draw({kBatch}).sigmoid(),
          .text = draw({kBatch, 3, 32})};
}

struct Setting {
  int processes = 1;
  TrainingMeshFields mesh = {};
  std::string recompute = "none";
};

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
    return config;
  }

  // Trains in a run's folder; it is cancelled in step `until`, if that is not negative.
  void train(const std::string& name, const Setting& setting, int64_t until = -1) const {
    run_worlds(setting.processes, [&](const std::shared_ptr<World>& world) {
      const at::AutoGradMode with_gradients(true);
      const TrainingRanks ranks = training_ranks(world, setting.mesh, sparse_config(), kBatch);
      Transformer model = random_transformer(sparse_config(), 3);
      for (at::Tensor& parameter : model->parameters()) {
        parameter.set_requires_grad(true);
      }
      model->shard_blocks(ranks.shards, at::kFloat);
      TrainedParameters parameters(whole_parameters(model, ""), ranks, &model->sharded_weights());
      CancellationToken cancel;
      Progress progress(nullptr, false);
      TrainingRun run(config(name), parameters, progress, cancel);
      TrainingBlocks blocks(model, CheckpointingFields{setting.recompute}.parse());
      Execution execution{model->numerics()};
      execution.blocks = &blocks;
      const TokenTables tables(model->config(), Grid{2, 3, 3}, at::kCPU, ranks.work.sequence);
      const int64_t own = kBatch / ranks.work.mesh.data;
      const auto add_gradients = [&](int64_t pass) -> Losses {
        if (until >= 0 && pass >= 2 * until && world->all().rank() == 0) {
          cancel.cancel();
        }
        const at::Tensor loss = flow_matching_loss(
            model, samples_of(pass, ranks.work.video * own, own), tables, execution);
        loss.backward();
        return {{"loss", loss.detach()}};
      };
      if (until >= 0) {
        EXPECT_THROW(run.run(add_gradients), Cancelled);
        EXPECT_EQ(run.step(), until + 1);
        return;
      }
      EXPECT_TRUE(run.run(add_gradients));
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

  const TemporaryFolder folder_;
};

const Setting kShardedSsp{4, {.data_parallel = 2, .ssp = 2, .shard_group = 4}, "all"};

TEST_F(TrainingOnRanks, EndsAsOnOne) {
  train("one", {});
  const at::Tensor expected = end_of("one");
  const std::vector<Setting> settings = {
      {2, {.data_parallel = 2}},
      {2, {.data_parallel = 1, .ssp = 2, .shard_group = 2}, "attention"},
      {4, {.data_parallel = 2, .ssp = 2, .shard_group = 2}, "1"},
      kShardedSsp};
  for (size_t i = 0; i < settings.size(); ++i) {
    const std::string name = "mesh " + std::to_string(i);
    train(name, settings[i]);
    EXPECT_LT(relative_l2(end_of(name), expected), kTolerance) << name;
  }
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

}  // namespace
}  // namespace ospnext
