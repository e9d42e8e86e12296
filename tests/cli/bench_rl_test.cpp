// ospnext bench rl: the parts of an epoch, its table, and the reward that sleeps.
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "bench/rl_cost.h"
#include "bench/slow_reward.h"
#include "cli/run_ospnext.h"

namespace ospnext {
namespace {

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// A measurement that takes seconds.
const Arguments kSmall = {"bench",           "rl",
                          "--size=small",    "--layers=8",
                          "--width=32",      "--height=32",
                          "--num-frames=5",  "--num-full-blocks=4",
                          "--device=cpu",    "--lora-rank=2",
                          "--steps=3",       "--sde-steps=1",
                          "--group-size=2",  "--sample-batch-size=2",
                          "--kl-beta=0.1",   "--train-batch-size=2",
                          "--epochs=1",      "--reward-seconds-per-video=0.1",
                          "--recompute=none"};

Outcome run_on_a_thread(const Arguments& arguments) {
  return run_binary(arguments, {}, [] { ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1); });
}

// The seconds of each row of the table of parts.
std::map<std::string, double> parts_of(const std::string& out) {
  std::istringstream lines(out.substr(out.find("part of an epoch")));
  std::map<std::string, double> parts;
  std::string line;
  std::getline(lines, line);
  while (!parts.contains("whole") && std::getline(lines, line)) {
    constexpr size_t kName = 20;
    const std::string name = line.substr(0, kName);
    parts[name.substr(0, name.find_last_not_of(' ') + 1)] = std::stod(line.substr(kName));
  }
  return parts;
}

TEST(BenchRl, PartsOfAnEpochMakeTheWhole) {
  const Outcome outcome = run_on_a_thread(kSmall);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const char* words :
       {"small dual_end, 32 x 32 x 5 frames: 8 tokens, cpu, float32, 8 blocks",
        "2 rollout(s) of 2 videos, in groups of 2; 3 steps, 1 of them with noise",
        "a rollout: ", "; sampling alone: ", "an update: ", "; its passes alone: ", "rank "}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << " in\n" << outcome.out;
  }
  EXPECT_EQ(outcome.out.find("idle"), std::string::npos) << outcome.out;
  const auto parts = parts_of(outcome.out);
  double sum = 0;
  for (const char* name : {"rollouts", "decode", "wait for rewards", "update", "optimizer"}) {
    ASSERT_TRUE(parts.contains(name)) << outcome.out;
    EXPECT_GT(parts.at(name), 0) << name;
    sum += parts.at(name);
  }
  constexpr double kRounding = 0.006;
  EXPECT_NEAR(sum + parts.at("rest"), parts.at("whole"), kRounding);
  EXPECT_GE(parts.at("rest"), -kRounding);
  EXPECT_GT(parts.at("wait for rewards"), 0.15);  // the last rollout's two videos, 0.1 s each
}

TEST(BenchRl, MeasuresAMeshOfProcesses) {
  const Outcome outcome = run_on_a_thread(with(
      {"launch", "-n", "2", "--"},
      with(kSmall, {"--ssp=2", "--shard-group=2", "--batches-per-epoch=1", "--group-rollouts=2"})));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("SSP 2 x Ulysses 1 x ring 1, weights in 2 shards"), std::string::npos)
      << outcome.err;
  for (const char* words :
       {"2 rollout(s) of 2 videos, in groups of 4", "[0] whole ", "[0] an update: ", "[0] switch ",
        "[0] weights ", "[0] gradients ", "[0] 1 "}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << " in\n" << outcome.out;
  }
  EXPECT_EQ(outcome.out.find("[1]"), std::string::npos) << outcome.out;
}

TEST(BenchRl, RefusesWhatItCannotMeasure) {
  EXPECT_TRUE(refuses(run_here({"bench", "rl", "--epochs=0"}), "--epochs"));
  EXPECT_TRUE(refuses(run_here({"bench", "rl", "--sde-steps=11"}), "--sde-steps"));
  EXPECT_TRUE(refuses(run_here({"bench", "rl", "--reward-seconds-per-video=-1"}),
                      "--reward-seconds-per-video"));
  EXPECT_TRUE(refuses(run_here({"bench", "rl", "--size=small", "--layers=7"}), "num_full_blocks"));
  EXPECT_TRUE(refuses(run_here({"bench", "rl", "--offload-weights", "--recompute=none"}),
                      "--offload-weights"));
}

TEST(BenchRlTable, ShowsMediansOfPartsAndWhatTheyAreComparedWith) {
  const auto epoch = [](double rollouts) {
    return EpochCost{.rollouts = rollouts,
                     .decode = 2,
                     .reward = 1,
                     .update = 12,
                     .optimizer = 0.5,
                     .whole = rollouts + 16,
                     .passes = 4};
  };
  const RlCost cost{.epochs = {epoch(4), epoch(60), epoch(5)},
                    .rollouts = 2,
                    .sampling = {2, 4, 1},
                    .passes = {2, 2, 2.5},
                    .idle = 0.0123};
  EXPECT_EQ(parts_table(cost),
            "part of an epoch             s     share\n"
            "rollouts                 5.000    23.8 %\n"
            "decode                   2.000     9.5 %\n"
            "wait for rewards         1.000     4.8 %\n"
            "update                  12.000    57.1 %\n"
            "optimizer                0.500     2.4 %\n"
            "rest                     0.500     2.4 %\n"
            "whole                   21.000   100.0 %\n"
            "GPU idle: 1.23 % of the epochs\n");
  EXPECT_EQ(comparisons(cost),
            "a rollout: 2.5000 s; sampling alone: 2.0000 s; ratio 1.250\n"
            "an update: 3.0000 s; its passes alone: 2.0000 s; ratio 1.500\n");
}

TEST(BenchRlTable, AddsUpdatesAndTakesTheRestOnce) {
  const auto seconds = [](const char* part, double value) {
    return std::pair<std::string, at::Tensor>(part, at::scalar_tensor(value, at::kDouble));
  };
  EpochCost cost;
  for (const double update : {2.0, 3.0}) {
    cost.add(
        {.losses = {seconds("loss", 7), seconds("seconds/rollout", 5), seconds("seconds/decode", 1),
                    seconds("seconds/reward", 0.5), seconds("seconds/update", update)}});
  }
  EXPECT_EQ(cost.passes, 2);
  EXPECT_EQ(cost.update, 5);
  EXPECT_EQ(cost.rollouts, 5);
  EXPECT_EQ(cost.decode, 1);
  EXPECT_EQ(cost.reward, 0.5);
}

TEST(SlowReward, SleepsForEachVideoAndTellsThemApart) {
  const at::Tensor videos = at::arange(2 * 3 * 2 * 4 * 4, at::kFloat).view({2, 3, 2, 4, 4}) / 192;
  const auto began = std::chrono::steady_clock::now();
  const auto scores = SlowReward(0.05).score(videos, {"a", "b"}, CancellationToken());
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(100));
  ASSERT_EQ(scores.size(), 2U);
  EXPECT_NEAR(scores[0].parts.at("total"), 47.5 / 192, 1e-6);
  EXPECT_NEAR(scores[1].parts.at("total"), 143.5 / 192, 1e-6);
  CancellationToken cancel;
  cancel.cancel();
  EXPECT_THROW(SlowReward(3600).score(videos, {"a", "b"}, cancel), Cancelled);
}

}  // namespace
}  // namespace ospnext
