// ospnext plan: its predictions, and the input that it refuses.
#include <gtest/gtest.h>

#include "cli/run_ospnext.h"

namespace ospnext {
namespace {

TEST(PlanCommand, GivesBackTheBlocksItWasGiven) {
  const Outcome outcome =
      run_binary({"plan", "--gpus=1", "--size=small", "--resolution=128x64", "--num-frames=5",
                  "--precision=float32", "--full-block-ms=200", "--sparse-block-ms=50"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("of 64 tokens"), std::string::npos) << outcome.out;
  // Two passes of 8 full and 8 sparse blocks.
  EXPECT_NE(outcome.out.find("   4.000     4.000     0.000     1.00        0.0      0"),
            std::string::npos)
      << outcome.out;
}

TEST(PlanCommand, CountsWhatARingJoins) {
  const Outcome outcome =
      run_binary({"plan", "--gpus=2", "--size=small", "--resolution=128x64", "--num-frames=5",
                  "--precision=float32", "--full-block-ms=200", "--sparse-block-ms=50",
                  "--parts-ms=10", "--cfg-parallel=1", "--ssp=1", "--ulysses=1", "--ring=2"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  // Half of the blocks' 4 s, and 5 ms in each of 2 x 16 blocks.
  EXPECT_NE(outcome.out.find("     2.160     "), std::string::npos) << outcome.out;
}

TEST(PlanCommand, SaysWhatWaitsInHostMemory) {
  const Outcome outcome =
      run_binary({"plan", "--gpus=1", "--resolution=128x64", "--num-frames=5", "--offload"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  // A small video waits for 28.1 GB in each of two passes, at 55 GB/s.
  EXPECT_NE(outcome.out.find("\n   1.02"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("each rank keeps 26.2 GiB of weights in host memory;"),
            std::string::npos)
      << outcome.out;
}

TEST(PlanCommand, BeginsWithTheMeshOfTheFlags) {
  const Outcome outcome = run_binary({"plan", "--gpus=4", "--resolution=480p", "--ssp=4"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const size_t chosen = outcome.out.find("data 1 x CFG 1 x SSP 4 x Ulysses 1 x ring 1");
  EXPECT_LT(chosen, outcome.out.find("the same and others")) << outcome.out;
}

TEST(PlanCommand, RefusesWhatItCannotPredict) {
  EXPECT_TRUE(refuses(run_here({"plan", "--full-block-ms=3"}), "found one of them, expected both"));
  EXPECT_TRUE(refuses(run_here({"plan", "--precision=float32"}), "--full-block-ms"));
  EXPECT_TRUE(refuses(run_here({"plan", "--resolution=640x"}), "expected 720p"));
  EXPECT_TRUE(refuses(run_here({"plan", "--resolution=640x385"}), "--height"));
  EXPECT_TRUE(refuses(run_here({"plan", "--size=2b"}), "--size"));
}

TEST(PlanCommand, NamesTheFlagsOfTheFastestTraining) {
  const Outcome outcome =
      run_binary({"plan", "--train", "--gpus=2", "--size=1.3b", "--resolution=480p", "--ssp=2",
                  "--shard-group=2", "--recompute=attention"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("1 clip(s) of 32760 tokens"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("--recompute attention --data-parallel 1 --ssp 2 --ulysses 1 --ring 1 "
                             "--shard-group 2\n"),
            std::string::npos)
      << outcome.out;
}

TEST(PlanCommand, SaysWhatToChangeIfNoTrainingFits) {
  const Outcome outcome = run_binary(
      {"plan", "--train", "--gpus=1", "--size=14b", "--resolution=480p", "--gpu-memory=80"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("nothing fits"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("--lora-rank 32, which fits"), std::string::npos) << outcome.out;
}

TEST(PlanCommand, RefusesFlagsOfTheOtherKindOfPlan) {
  EXPECT_TRUE(refuses(run_here({"plan", "--batch-size=2"}), "--batch-size: found without --train"));
  EXPECT_TRUE(refuses(run_here({"plan", "--train", "--videos=2"}), "--videos: found with --train"));
  EXPECT_TRUE(refuses(run_here({"plan", "--train", "--offload"}), "--offload: found with --train"));
  EXPECT_TRUE(refuses(run_here({"plan", "--train", "--precision=hif8"}), "expected bf16"));
  EXPECT_TRUE(refuses(run_here({"plan", "--train", "--gpu-memory=0"}), "--gpu-memory"));
}

}  // namespace
}  // namespace ospnext
