// Gradients do not depend on what blocks keep, on who keeps their weights, or on the mesh.
#include "train/training_blocks.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "core/torch/random.h"
#include "engine/work_ranks.h"
#include "support/run_worlds.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-4;  // relative L2 of each gradient
constexpr double kSmallNorm = 1e-6;  // shorter gradients count as this share of the longest
constexpr int64_t kSamples = 4, kPasses = 2;

using Gradients = std::map<std::string, at::Tensor>;

// The gradients of the mean loss of the samples begin, begin + 1, ...; `runner` may be null.
void add_gradients(Transformer& model, BlockRunner* runner, const Grid& grid, int64_t begin,
                   int64_t count, const SequenceRanks& ranks) {
  const at::AutoGradMode with_gradients(true);
  at::Generator generator = seeded_generator(5, "samples");
  const auto draw = [&](at::IntArrayRef shape) {
    return torch::randn(shape, generator, at::kFloat).narrow(0, begin, count);
  };
  const at::Tensor latent = draw({kSamples, 16, grid.T, 2 * grid.H, 2 * grid.W});
  const at::Tensor text = draw({kSamples, 3, 32});
  const at::Tensor target = draw({kSamples, 16, grid.T, 2 * grid.H, 2 * grid.W});
  const at::Tensor time = at::tensor({750.F, 20.F, 500.F, 333.F}).narrow(0, begin, count);
  Execution run{model->numerics()};
  run.blocks = runner;
  const TokenTables tables(model->config(), grid, at::kCPU, ranks);
  const at::Tensor velocity =
      model->forward(latent, model->embed_words(text, run),
                     model->embed_time(time, run.numerics.epilogue), tables, run);
  (velocity - target).square().mean().backward();
}

Transformer trainee() {
  Transformer model = random_transformer(ranks_transformer_config("dual_end"), 3);
  for (at::Tensor& parameter : model->parameters()) {
    parameter.set_requires_grad(true);
  }
  return model;
}

Gradients one_process(const Grid& grid) {
  Transformer model = trainee();
  add_gradients(model, nullptr, grid, 0, kSamples, {});
  Gradients found;
  for (const auto& item : model->named_parameters()) {
    found[item.key()] = item.value().grad();
  }
  return found;
}

struct Setting {
  Mesh mesh;
  bool shards;
  CheckpointingFields kept;

  std::string name() const {
    return mesh.text() + (shards ? ", sharded, " : ", ") + "recompute " + kept.recompute +
           (kept.offload_weights ? ", offloaded" : "");
  }
};

// The largest relative L2 of this rank's gradients: of whole ones, and of shards. `sharers`, all
// ranks or this one, divide the weights.
double worst(Transformer& model, const WorkRanks& ranks, const ProcessGroup& sharers,
             const Gradients& expected) {
  const double sums = kPasses * ranks.world->all().size();  // of means
  double longest = 0, largest = 0;
  for (const auto& [name, gradient] : expected) {
    longest = std::max(longest, gradient.norm().item<double>());
  }
  const auto compare = [&](const at::Tensor& actual, const at::Tensor& wanted) {
    const double norm = std::max(wanted.norm().item<double>(), kSmallNorm * longest);
    largest = std::max(largest, (actual / sums - wanted).norm().item<double>() / norm);
  };
  const auto& shards = model->sharded_weights().shards();
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const auto& [name, shard] : shards[i]) {
      const at::Tensor whole = expected.at("blocks." + std::to_string(i) + "." + name);
      compare(sharers.alone() ? ranks.world->all().all_sum(shard.gradient, "gradients")
                              : shard.gradient,
              whole.flatten().narrow(0, shard.first, shard.gradient.numel()));  // [n]
    }
  }
  for (const auto& item : model->named_parameters()) {
    if (shards.empty() || !item.key().starts_with("blocks.")) {
      const at::Tensor own = item.value().grad();  // undefined on a rank that has no tokens
      compare(ranks.world->all().all_sum(own.defined() ? own : at::zeros_like(item.value()),
                                         "gradients"),
              expected.at(item.key()));
    }
  }
  return largest;
}

void expect_same_gradients(int size, const std::vector<Setting>& settings) {
  run_worlds(size, [&](const std::shared_ptr<World>& world) {
    const ProcessGroup shards = world->all().twin("weights");
    double most = 0;
    for (const Grid& grid : {Grid{2, 5, 7}, Grid{3, 1, 4}}) {
      const Gradients expected = one_process(grid);
      for (const Setting& it : settings) {
        const ProcessGroup sharers = it.shards ? shards : ProcessGroup();
        const WorkRanks ranks =
            work_ranks(world, it.mesh, ranks_transformer_config("dual_end").num_heads, false);
        Transformer model = trainee();
        model->shard_blocks(sharers, at::kFloat, {.offload = it.kept.offload_weights});
        model->sharded_weights().begin_training();
        TrainingBlocks blocks(model, it.kept.parse());
        const int64_t own = kSamples / it.mesh.data;
        for (int64_t part = 0; part < kPasses; ++part) {  // accumulated over two passes
          add_gradients(model, &blocks, grid, ranks.video * own + part * own / kPasses,
                        own / kPasses, ranks.sequence);
        }
        model->sharded_weights().finish_gradients();
        const double error = worst(model, ranks, sharers, expected);
        EXPECT_LT(error, kTolerance) << it.name();
        most = std::max(most, error);
      }
    }
    if (world->all().rank() == 0) {
      std::printf("  %d ranks: relative L2 at most %.1e\n", size, most);
    }
  });
}

std::vector<Setting> all_settings(const std::vector<Mesh>& meshes) {
  std::vector<Setting> settings;
  for (const Mesh& mesh : meshes) {
    for (const bool shards : {false, true}) {
      for (const char* kept : {"none", "attention", "all", "3"}) {
        settings.push_back({mesh, shards, {kept}});
      }
      settings.push_back({mesh, shards, {.recompute = "3", .offload_weights = true}});
    }
  }
  return settings;
}

TEST(TrainingBlocks, OnOne) {
  expect_same_gradients(1, all_settings({{1, 1, {1, 1, 1}}}));
}

TEST(TrainingBlocks, OnTwo) {
  expect_same_gradients(2, all_settings({{2, 1, {1, 1, 1}}, {1, 1, {2, 1, 1}}}));
}

TEST(TrainingBlocks, OnFour) {
  expect_same_gradients(4, all_settings({{2, 1, {2, 1, 1}}, {1, 1, {2, 1, 2}}}));
}

TEST(TrainingBlocks, OnEight) {
  expect_same_gradients(8, {{{2, 1, {2, 2, 1}}, true, {"all"}}, {{2, 1, {4, 1, 1}}, true, {"3"}}});
}

}  // namespace
}  // namespace ospnext
