// Reinforcement learning on meshes of processes: the same videos, advantages and updates as on one,
// and ratios of exactly 1.
#include <gtest/gtest.h>

#include "rl/small_grpo.h"
#include "support/compare.h"
#include "support/run_ranks.h"

namespace ospnext {
namespace {

constexpr double kVideoTolerance = 1e-5;   // relative, of what is measured of all videos
constexpr double kUpdateTolerance = 1e-4;  // relative, after an update or two

struct Mesh {
  int processes;
  TrainingMeshFields fields;
};

// Two epochs of one update with all four videos of two prompts, whatever the mesh.
RlConfig config_on(const SmallGrpo& it, const Mesh& mesh, const std::string& name) {
  RlConfig config = it.config(name);
  const int64_t parts = std::max<int64_t>(mesh.fields.data_parallel, 1);
  config.mesh = mesh.fields;
  config.update.ema.decay = 0.1;  // what is written has learnt
  config.rollout.steps = 3;
  config.rollout.batches_per_epoch = 1;
  config.rollout.sample_batch_size = config.update.train_batch_size = 4 / parts;
  return config;
}

void train_on(const Mesh& mesh, const RlConfig& config) {
  const HostedStore store;
  run_ranks(mesh.processes, [&](const ProcessGroup& all) {
    const auto set = [](const char* name, int value) {
      ::setenv(name, std::to_string(value).c_str(), /*overwrite=*/1);
    };
    set("RANK", all.rank());
    set("LOCAL_RANK", all.rank());
    set("WORLD_SIZE", all.size());
    set("LOCAL_WORLD_SIZE", all.size());
    set("MASTER_PORT", store.port());
    ::setenv("MASTER_ADDR", "127.0.0.1", 1);
    ::setenv("TORCHELASTIC_USE_AGENT_STORE", "True", 1);
    const at::AutoGradMode with_gradients(true);
    EXPECT_TRUE(train_quietly(config));
  });
}

// Every algorithm makes the videos, advantages and updates of one process on each mesh.
void expect_one_result(const std::string& algorithm, const char* distance) {
  const SmallGrpo it;
  const auto config_of = [&](const Mesh& mesh, const std::string& name) {
    RlConfig config = config_on(it, mesh, name);
    config.rollout.window.algorithm = algorithm;
    return config;
  };
  const RlConfig one = config_of({1, {}}, "one");
  train_on({1, {}}, one);
  const std::vector<Mesh> meshes = {{2, {.data_parallel = 2}},
                                    {2, {.data_parallel = 1, .ssp = 2, .shard_group = 2}},
                                    {4, {.data_parallel = 4}},
                                    {4, {.data_parallel = 2, .ssp = 2, .shard_group = 4}}};
  for (size_t i = 0; i < meshes.size(); ++i) {
    const RlConfig config = config_of(meshes[i], "mesh " + std::to_string(i));
    train_on(meshes[i], config);
    EXPECT_EQ(log_column(config.output, distance), std::vector<double>({0, 0})) << i;
    for (const char* name :
         {"reward/motion_mean", "reward/motion_std", "reward/exposure_q10", "reward/sharpness_q90",
          "diversity", "advantage/abs_mean", "advantage/max", "zero_std_ratio"}) {
      const auto expected = log_column(one.output, name), found = log_column(config.output, name);
      ASSERT_EQ(found.size(), 2U);
      // The second epoch is that of a policy which differs by rounding.
      EXPECT_NEAR(found[0], expected[0], kVideoTolerance * std::abs(expected[0])) << i << name;
      EXPECT_NEAR(found[1], expected[1], kUpdateTolerance * std::abs(expected[1])) << i << name;
    }
    for (const char* part : {"lora_A", "lora_B"}) {
      EXPECT_LT(relative_l2(lora_row(config, part), lora_row(one, part)), kUpdateTolerance) << i;
    }
  }
}

TEST(PolicyOnRanks, MakesTheVideosAdvantagesAndUpdatesOfOneProcess) {
  expect_one_result("osp", "ratio_distance");
}

TEST(PolicyOnRanks, MakesTheSameUpdatesWithNft) {
  expect_one_result("nft", "velocity_change");
}

TEST(PolicyOnRanks, TrainsAllShardedWeightsBesideAShardedReference) {
  const SmallGrpo it;
  const Mesh mesh{2, {.data_parallel = 2, .shard_group = 2}};
  RlConfig one = config_on(it, {1, {}}, "one"), two = config_on(it, mesh, "two");
  one.lora = two.lora = {};
  one.update.learning_rate = two.update.learning_rate = 1e-4;
  train_on({1, {}}, one);
  train_on(mesh, two);
  EXPECT_EQ(log_column(two.output, "ratio_distance"), std::vector<double>({0, 0}));
  // Not policy_loss: with ratios of 1 it is the mean advantage, which is 0 but for rounding.
  for (const char* name : {"kl_loss", "gradient_norm"}) {
    const auto expected = log_column(one.output, name), found = log_column(two.output, name);
    EXPECT_NEAR(found[1], expected[1], kUpdateTolerance * std::abs(expected[1])) << name;
  }
  EXPECT_GT(log_column(two.output, "kl_loss")[1], 0);
}

}  // namespace
}  // namespace ospnext
