// ospnext bench: its table, and what it refuses.
#include <gtest/gtest.h>
#include <unistd.h>

#include "cli/bench_timing.h"
#include "cli/run_ospnext.h"

namespace ospnext {
namespace {

TEST(Bench, PrintsARowForEachPieceAndTheDevicesBestFirst) {
  const Outcome outcome =
      run_here({"bench", "pointwise", "--size=1.3b", "--width=64", "--height=32", "--num-frames=5",
                "--device=cpu", "--runs=2", "--warmup=0"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  size_t place = 0;
  for (const char* words :
       {"1.3b dual_end, 64 x 32 x 5 frames: 16 tokens, cpu, float32", "% of max", "matrix product",
        "copy", "layer norm + modulation", "RMS norm + rotation", "gated residual", "GELU",
        "switch of layout", "peak memory:"}) {
    const size_t found = outcome.out.find(words, place);
    ASSERT_NE(found, std::string::npos) << words << " in\n" << outcome.out;
    place = found;
  }
}

TEST(Bench, RefusesWhatItCannotMeasure) {
  EXPECT_TRUE(refuses(run_here({"bench"}), "expected one of: attention, gemm"));
  EXPECT_TRUE(refuses(run_here({"bench", "atention"}), "did you mean attention?"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--size=2b"}), "--size"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--runs=0"}), "--runs"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--precision=hif8-simulated"}),
                      "expected float32, bf16 or auto"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--height=721"}), "height"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--num-full-blocks=7"}), "num_full_blocks"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--model-type=half"}), "skiparse_model_type"));
}

TEST(BenchTiming, GivesTheMedianOfEachFunctionAndLeavesOutTheWarmUp) {
  int calls = 0, others = 0;
  const auto wait = [](int milliseconds) { ::usleep(1000 * milliseconds); };
  const std::vector<double> medians = median_milliseconds(
      {[&] { wait(++calls <= 2 ? 60
                  : calls == 5 ? 400
                               : 4); }, [&] { ++others; }}, at::kCPU, 2, 3);
  EXPECT_EQ(calls, 5);
  EXPECT_EQ(others, 5);
  EXPECT_GE(medians[0], 4.0);
  EXPECT_LT(medians[0], 100.0);  // the mean is above
  EXPECT_LT(medians[1], 4.0);
}

}  // namespace
}  // namespace ospnext
