// ospnext bench: its tables, and the input that it refuses.
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <sstream>

#include "bench/cases.h"
#include "bench/generation.h"
#include "bench/timing.h"
#include "cli/run_ospnext.h"
#include "engine/gpu_trace.h"
#include "packages/random_model.h"
#include "support/tiny_model.h"

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

TEST(Bench, GemmShowsWhatEachEpilogueAddsToItsBareProduct) {
  for (const std::string precision : {"bf16", "hif8-simulated"}) {
    const Outcome outcome =
        run_here({"bench", "gemm", "--size=1.3b", "--width=16", "--height=16", "--num-frames=1",
                  "--device=cpu", "--precision=" + precision, "--runs=1", "--warmup=0"});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    size_t place = 0;
    for (const char* words :
         {"% of bare", "product, q, k, v or o", "+ bias ", "+ bias + gated residual",
          "product, ffn in", "+ bias ", "+ bias + GELU", "product, ffn out", "+ bias ",
          "+ bias + gated residual"}) {
      const size_t found = outcome.out.find(words, place);
      ASSERT_NE(found, std::string::npos) << words << " in\n" << outcome.out;
      place = found + 1;
    }
  }
}

TEST(Bench, GemmTimesRoundingOfTheInputApartFromFp8Products) {
  BenchModel model;
  model.transformer.dim = 128;
  model.transformer.ffn_dim = 256;
  model.width = model.height = 64;
  model.num_frames = 1;
  model.compute = {.dtype = at::kBFloat16, .hif8 = Hif8Use::kTensorCores};
  int64_t products = 0, roundings = 0;
  for (const BenchCase& piece : gemm_cases(model)) {
    SCOPED_TRACE(piece.name);
    EXPECT_NO_THROW(piece.ours());
    products += piece.name.starts_with("product") ? 1 : 0;
    roundings += piece.name.ends_with("cast of the input") ? 1 : 0;
    EXPECT_EQ(static_cast<bool>(piece.bare), piece.name.starts_with("  +"));
  }
  EXPECT_EQ(products, 3);
  EXPECT_EQ(roundings, 3);
}

TEST(Bench, DecodesWholeAndInTiles) {
  BenchModel model;
  model.width = 272;
  model.height = 16;
  model.num_frames = 1;
  std::vector<std::string> names;
  for (const BenchCase& piece : vae_cases(model)) {
    names.push_back(piece.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"VAE, decode", "VAE, decode in tiles of 256,192",
                                             "VAE, encode"}));
}

class BenchGenerate : public testing::Test {
 protected:
  static GenerationCost measure(const ComputeOptions& compute, Profile* profile = nullptr) {
    GenerationConfig config;
    config.width = 48;
    config.height = 32;
    config.num_frames = 5;
    config.steps = 3;
    const RandomModelSource source(tiny_transformer_config(), tiny_text_encoder_config(),
                                   tiny_vae_config(), 5);
    return measure_generation(source, compute, config, CancellationToken(), {}, profile);
  }
};

TEST_F(BenchGenerate, TellsEachStageAndStep) {
  for (const Hif8Use use : {Hif8Use::kAsConfigured, Hif8Use::kSimulated}) {
    const GenerationCost cost = measure({.hif8 = use});
    std::vector<std::string> names;
    double denoising = 0;
    for (const auto& [name, seconds, peak_bytes] : cost.stages) {
      names.push_back(name);
      EXPECT_GT(seconds, 0);
      EXPECT_GT(peak_bytes, 0);
      denoising = name == "denoise" ? seconds : denoising;
    }
    EXPECT_EQ(names, (std::vector<std::string>{"load", "encode text", "denoise", "decode"}));
    ASSERT_EQ(cost.step_seconds.size(), 3U);
    const double steps = cost.step_seconds[0] + cost.step_seconds[1] + cost.step_seconds[2];
    EXPECT_LE(steps, denoising + 0.01);  // the watcher's clock starts a moment earlier
    EXPECT_FALSE(cost.idle);
  }
}

TEST_F(BenchGenerate, ItsProfileTellsOfBlocks) {
  Profile profile(at::kCPU);
  measure({}, &profile);
  int64_t blocks = 0;
  for (const ProfileRow& row : profile_rows({profile.records()})) {
    blocks += row.name == "full" ? row.calls : 0;
  }
  EXPECT_EQ(blocks, 3 * 2 * tiny_transformer_config().num_layers);  // steps, passes
}

TEST(BenchGenerateTable, AddsUpStagesAndGivesTheTimeOfAPass) {
  const GenerationCost cost{
      .stages = {{"load", 1.5, int64_t{2} << 30}, {"denoise", 6, int64_t{5} << 29}},
      .step_seconds = {4, 2},
      .idle = 0.0123,
      .idle_after_first = 0.004};
  EXPECT_EQ(cost_table(cost, 2),
            "stage                        s  peak GiB\n"
            "load                     1.500      2.00\n"
            "denoise                  6.000      2.50\n"
            "all                      7.500      2.50\n"
            "a pass: 1500.0 ms, after the first step 1000.0 ms\n"
            "a step: 2.0000 s, the median of 1\n"
            "GPU idle: 1.23 % of denoising, after the first step 0.40 %\n");
}

TEST(BenchGenerateTable, DividesExchangesAmongTheStepsAfterTheFirst) {
  const GenerationCost cost{
      .stages = {{"denoise", 6, int64_t{1} << 30}},
      .step_seconds = {4, 1, 1},
      .traffic = {
          {"share", {}}, {"switch", {62, 3'000'000, 0.5}}, {"gather", {2, 1'000'000, 0.1}}}};
  EXPECT_EQ(exchange_table(cost),
            "exchange in a step       calls   MB sent         s\n"
            "gather                       1      0.50    0.0500\n"
            "switch                      31      1.50    0.2500\n"
            "all                         32      2.00    0.3000\n");
  EXPECT_EQ(rank_table(costs_of_ranks(cost, ProcessGroup(), at::kCPU)),
            "rank                  peak GiB   MB/step    exchange s\n"
            "0                         1.00      2.00        0.3000\n");
}

// Rows of the table that begins with `header`: maps the first cell to the others.
std::map<std::string, std::vector<double>> rows_below(const std::string& out,
                                                      const std::string& header) {
  std::istringstream lines(out.substr(out.find(header)));
  std::map<std::string, std::vector<double>> rows;
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string rank, name;
    words >> rank >> name;
    for (double number = 0; words >> number;) {
      rows[name].push_back(number);
    }
    if (name == "all") {
      break;
    }
  }
  return rows;
}

TEST(BenchGenerateOnRanks, TellsWhatEachSendsInAStep) {
  const Outcome outcome = run_binary(
      {"launch", "-n", "2", "--", "bench", "generate", "--size=small", "--width=64", "--height=64",
       "--num-frames=5", "--device=cpu", "--steps=3", "--cfg-parallel=1", "--ssp=2"},
      {}, [] { ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1); });
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("2 processes: data 1 x CFG 1 x SSP 2"), std::string::npos);
  EXPECT_NE(outcome.out.find("[0] a step: "), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find("[1]"), std::string::npos) << outcome.out;
  // Two passes of 8 sparse blocks between full ones; tokens [2, 4, 4] of width 256 in float32.
  constexpr double kMega = 1e6, kRow = 256 * 4, kTokens = 32;
  auto exchanges = rows_below(outcome.out, "[0] exchange in a step");
  ASSERT_EQ(exchanges["switch"].size(), 3U) << outcome.out;
  EXPECT_EQ(exchanges["switch"][0], 2 * 7) << outcome.out;
  EXPECT_NEAR(exchanges["switch"][1], 2 * 7 * kTokens / 4 * kRow / kMega, 0.005);
  auto ranks = rows_below(outcome.out, "[0] rank ");
  ASSERT_EQ(ranks.size(), 2U) << outcome.out;
  EXPECT_GT(ranks["1"][0], 0.1);
  EXPECT_NEAR(ranks["0"][1], exchanges["all"][1], 0.005);
  EXPECT_NEAR(ranks["1"][1], exchanges["all"][1], 0.005);
}

TEST(BenchExchange, GivesThePlanItsLink) {
  const Outcome outcome =
      run_binary({"launch", "-n", "2", "--", "bench", "exchange", "--size=small", "--width=256",
                  "--height=256", "--num-frames=5", "--device=cpu", "--runs=3"},
                 {}, [] { ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1); });
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  // A quarter of 512 tokens of width 256, in float32.
  EXPECT_NE(outcome.out.find("[0] a switch: 0.131 MB sent by each in "), std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.out.find("[0] for plan: --link "), std::string::npos) << outcome.out;
  EXPECT_TRUE(refuses(run_here({"bench", "exchange"}), "expected several"));
}

TEST(GpuTrace, IdleIsWhatNoIntervalCovers) {
  const std::vector<Interval> work = {{60, 100}, {0, 10}, {5, 20}, {30, 50}, {32, 40}};
  EXPECT_DOUBLE_EQ(*idle_share(work), 0.2);  // 20 to 30 and 50 to 60
  EXPECT_DOUBLE_EQ(*idle_share(work, 30), 1.0 / 7);
  EXPECT_FALSE(idle_share(work, 101));
  EXPECT_FALSE(idle_share({}));
}

TEST(GpuTrace, TableHasTheLongestKernelsAndTheRest) {
  const std::vector<Interval> work = {{0, 2'000'000, "gemm"},
                                      {2'000'000, 3'000'000, "norm"},
                                      {3'000'000, 6'000'000, "gemm"},
                                      {8'000'000, 8'500'000, "copy"},
                                      {8'500'000, 10'000'000, "fill"}};
  EXPECT_EQ(kernel_table(work, 2),
            "       ms    share    calls\n"
            "     5.00   62.5 %        2  gemm\n"
            "     1.50   18.8 %        1  fill\n"
            "     1.50   18.8 %        2  2 others\n"
            "the GPU was idle for 20.0 % of the time\n");
  EXPECT_EQ(kernel_table({}, 2),
            "       ms    share    calls\nthe GPU was idle for 0.0 % of the time\n");
}

TEST(GpuTrace, RecordsKernelsOnlyWhereThereIsAGpu) {
  const int64_t before = trace_clock();
  GpuTrace trace;
  const bool cuda = torch::cuda::is_available();
  at::ones({64}, cuda ? at::kCUDA : at::kCPU).add_(1).cpu();
  const std::vector<Interval> work = trace.stop();
  EXPECT_EQ(work.empty(), !cuda);
  for (const Interval& one : work) {
    EXPECT_GT(one.begin, before);
    EXPECT_LE(one.end, trace_clock());
  }
}

TEST(Bench, RefusesWhatItCannotMeasure) {
  EXPECT_TRUE(refuses(run_here({"bench"}), "expected one of: attention, gemm"));
  EXPECT_TRUE(refuses(run_here({"bench", "atention"}), "did you mean attention?"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--size=2b"}), "--size"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--runs=0"}), "--runs"));
  EXPECT_TRUE(refuses(run_here({"bench", "vae", "--precision=hif8-simulated"}),
                      "expected float32, bf16 or auto"));
  EXPECT_TRUE(refuses(run_here({"bench", "generate", "--steps=0"}), "--steps"));
  EXPECT_TRUE(refuses(run_here({"bench", "generate", "--vae-tile=7"}), "--vae-tile"));
  EXPECT_TRUE(refuses(run_here({"bench", "generate", "--ssp=2"}), "mesh: found --ssp 2"));
  EXPECT_TRUE(refuses(run_here({"bench", "generate", "--profile=no/trace.json"}), "--profile"));
  EXPECT_TRUE(refuses(run_here({"bench", "gemm", "--height=721"}), "height"));
  EXPECT_TRUE(
      refuses(run_here({"bench", "gemm", "--offload"}), "--offload: found with bench gemm"));
  EXPECT_TRUE(refuses(run_here({"bench", "train", "--offload-weights"}),
                      "--offload-weights: found with --recompute none"));
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
