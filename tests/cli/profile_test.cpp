// `generate --profile`: the table and the trace, of made-up spans and of whole runs.
#include "engine/profile.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "cli/generate_fixture.h"
#include "cli/run_ospnext.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr int64_t kMillisecond = 1'000'000;  // nanoseconds

SpanRecord span(SpanKind kind, const std::string& name, int64_t parent, int64_t begin_ms,
                int64_t end_ms, int64_t bytes = 0) {
  return {.kind = kind,
          .name = name,
          .parent = parent,
          .begin = begin_ms * kMillisecond,
          .end = end_ms * kMillisecond,
          .bytes = bytes};
}

// A step of two blocks, and a rank whose exchanges take longer.
SpansOfRanks two_ranks() {
  const std::vector<SpanRecord> first = {
      span(SpanKind::kStage, "load", -1, 5000, 5500),
      span(SpanKind::kStage, "denoise", -1, 5500, 7000),
      span(SpanKind::kStep, "step", 1, 5500, 7000),
      span(SpanKind::kPass, "pass", 2, 5500, 6700),
      span(SpanKind::kBlock, "full", 3, 5500, 6000),
      span(SpanKind::kPart, "self-attention", 4, 5500, 5900),
      span(SpanKind::kExchange, "ulysses in", 5, 5600, 5700, 1'500'000),
      span(SpanKind::kBlock, "switch", 3, 6000, 6100),
      span(SpanKind::kExchange, "switch", 7, 6000, 6050, 20'000),
      span(SpanKind::kBlock, "full", 3, 6100, 6600),
      span(SpanKind::kPart, "self-attention", 9, 6100, 6500),
      span(SpanKind::kExchange, "ulysses in", 10, 6100, 6200, 1'500'000),
      span(SpanKind::kExchange, "guidance", 2, 6700, 6800, 1000),
      span(SpanKind::kKernel, "gemm", -1, 5510, 5520)};
  std::vector<SpanRecord> second = first;
  for (SpanRecord& one : second) {
    one.end += one.kind == SpanKind::kExchange ? 30 * kMillisecond : 0;
  }
  return {first, second};
}

TEST(ProfileTable, AddsUpBlocksByKindAndWhatIsInThem) {
  EXPECT_EQ(profile_table(two_ranks()),
            "        s   at most    share    calls   MB sent\n"
            "    0.500     0.500   25.0 %        1            load\n"
            "    1.500     1.500   75.0 %        1            denoise\n"
            "    1.000     1.000   66.7 %        2              full\n"
            "    0.800     0.800   53.3 %        2                self-attention\n"
            "    0.200     0.260   13.3 %        2      3.00      exchange \"ulysses in\"\n"
            "    0.100     0.100    6.7 %        1              switch\n"
            "    0.050     0.080    3.3 %        1      0.02      exchange \"switch\"\n"
            "    0.100     0.130    6.7 %        1      0.00    exchange \"guidance\"\n"
            "    0.300     0.300   20.0 %                       the rest\n");
  const SpansOfRanks alone = {{span(SpanKind::kStage, "decode", -1, 0, 250),
                               span(SpanKind::kBlock, "VAE decode", 0, 0, 200)}};
  EXPECT_EQ(profile_table(alone),
            "        s    share    calls\n"
            "    0.250  100.0 %        1  decode\n"
            "    0.200   80.0 %        1    VAE decode\n"
            "    0.050   20.0 %             the rest\n");
}

TEST(ProfileTable, OfManyVideosHasEachStageOnce) {
  Profile profile(at::kCPU);
  Progress progress(nullptr, false, &profile);
  constexpr auto kDenoise = Stage::Kind::kDenoise, kOther = Stage::Kind::kOther;
  for (const Stage& stage :
       {Stage("load transformer"), Stage("denoise", kDenoise, 1), Stage("decode", kOther, 1),
        Stage("denoise", kDenoise, 2), Stage("decode", kOther, 2)}) {
    progress.begin(stage, 1);
    progress.step();
  }
  progress.end();
  std::map<std::string, int64_t> calls;
  for (const ProfileRow& row : profile_rows({profile.records()})) {
    calls[row.name] = row.calls;
  }
  EXPECT_EQ(calls, (std::map<std::string, int64_t>{
                       {"load transformer", 1}, {"denoise", 2}, {"decode", 2}}));
  EXPECT_EQ(profile.records()[3].number, 2);
}

// All spans of a trace, by rank and name. Two spans of one rank are nested or disjoint.
std::map<std::pair<int, std::string>, std::vector<json>> spans_of(const json& trace) {
  constexpr double kRounding = 0.01;  // microseconds
  std::map<std::pair<int, std::string>, std::vector<json>> spans;
  std::map<int, std::vector<json>> open;
  const auto end_of = [](const json& one) {
    return one["ts"].get<double>() + one["dur"].get<double>();
  };
  for (const json& event : trace.at("traceEvents")) {
    if (event["ph"] == "M") {
      continue;
    }
    EXPECT_EQ(event["ph"], "X");
    EXPECT_GE(event["ts"], 0);
    EXPECT_GE(event["dur"], 0);
    const int rank = event["pid"];
    spans[{rank, event["name"]}].push_back(event);
    if (event["tid"] != 0) {
      continue;
    }
    std::vector<json>& outer = open[rank];
    while (!outer.empty() && event["ts"].get<double>() >= end_of(outer.back()) - kRounding) {
      outer.pop_back();
    }
    EXPECT_TRUE(outer.empty() || end_of(event) <= end_of(outer.back()) + kRounding) << event;
    outer.push_back(event);
  }
  return spans;
}

TEST(ChromeTrace, HasAProcessARankAndItsKernelsApart) {
  const json trace = json::parse(chrome_trace(two_ranks()));
  const auto spans = spans_of(trace);
  EXPECT_EQ(trace["traceEvents"].size(), 2 + 2 * 14);
  EXPECT_EQ(trace["traceEvents"][0]["args"]["name"], "rank 0");
  const json& exchange = spans.at({1, "guidance"}).front();
  EXPECT_EQ(exchange["cat"], "exchange");
  EXPECT_EQ(exchange["args"]["bytes"], 1000);
  EXPECT_DOUBLE_EQ(exchange["ts"], 1.7e6);  // relative to the start of the first span
  EXPECT_DOUBLE_EQ(exchange["dur"], 0.13e6);
  EXPECT_EQ(spans.at({0, "gemm"}).front()["tid"], 1);
  EXPECT_EQ(spans.at({0, "full"}).size(), 2);
}

// A small sparse model with several heads and guidance: two passes per step.
class ProfiledGenerate : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = std::make_unique<TemporaryFolder>();
    write_sparse_model(model_->path());
  }
  static void TearDownTestSuite() { model_.reset(); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // generate --profile=`trace` with two steps.
  Arguments generate(const std::string& trace) const {
    return {"generate",   "--device=cpu",          "--steps=2",
            "--model",    model_->path().string(), "--prompt",
            "a red ball", "--profile=" + trace,    "--output=" + path("a.y4m")};
  }

  const TemporaryFolder folder_;
  static inline std::unique_ptr<TemporaryFolder> model_;
};

// Calls of each name in one pass of the model above. The layouts are token, token, token, group,
// ... group, group.
const std::map<std::string, size_t> kCallsInPass = {
    {"embed", 1}, {"full", 4},           {"sparse token", 2},   {"sparse group", 2}, {"switch", 3},
    {"head", 1},  {"self-attention", 8}, {"text attention", 8}, {"feed-forward", 8}};

TEST_F(ProfiledGenerate, TellsOfBlocksOfOneProcess) {
  const Outcome outcome = run_here(generate(path("trace.json")));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"a.json", "a.y4m", "trace.json"}));
  EXPECT_EQ(json::parse(file_text(folder_ / "a.json"))["config"]["profile"], "");
  const auto spans = spans_of(json::parse(file_text(folder_ / "trace.json")));
  double blocks = 0;
  for (const auto& [name, calls] : kCallsInPass) {
    EXPECT_EQ(spans.at({0, name}).size(), 2 * 2 * calls) << name;
    for (const json& one : spans.at({0, name})) {
      blocks += one["cat"] == "block" ? one["dur"].get<double>() : 0;
    }
    EXPECT_NE(outcome.err.find("  " + name + "\n"), std::string::npos) << name << outcome.err;
  }
  const json& denoising = spans.at({0, "denoise"}).front();
  EXPECT_LE(blocks, denoising["dur"].get<double>());
  EXPECT_GT(blocks, 0);
  for (const char* name : {"load", "text encoder", "text keys", "VAE decode"}) {
    EXPECT_EQ(spans.at({0, name}).size(), 1) << name;
  }
  EXPECT_EQ(spans.at({0, "step"}).size(), 2);
  EXPECT_EQ(spans.at({0, "pass"}).size(), 4);
}

TEST_F(ProfiledGenerate, TellsOfTheExchangesOfAllProcesses) {
  Arguments arguments = generate(path("trace.json"));
  arguments.insert(arguments.begin(), {"launch", "-n", "2", "--"});
  arguments.emplace_back("--ssp=2");
  const Outcome outcome =
      run_binary(arguments, {}, [] { ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1); });
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"a.json", "a.y4m", "trace.json"}));
  const auto spans = spans_of(json::parse(file_text(folder_ / "trace.json")));
  for (const int rank : {0, 1}) {
    for (const auto& [name, calls] : kCallsInPass) {
      // an exchange inside each span of the same name
      EXPECT_EQ(spans.at({rank, name}).size(), 2 * 2 * calls * (name == "switch" ? 2 : 1)) << name;
    }
    EXPECT_EQ(spans.at({rank, "ulysses in"}).size(), 2 * 2 * 4);
    EXPECT_GT(spans.at({rank, "ulysses in"}).front()["args"]["bytes"], 0);
    EXPECT_EQ(spans.at({rank, "denoise"}).size(), 1);
  }
  EXPECT_EQ(spans.count({0, "VAE decode"}), 1);
  for (const char* words :
       {"at most", "exchange \"ulysses in\"", "exchange \"gather\"", "the rest"}) {
    EXPECT_NE(outcome.err.find(words), std::string::npos) << words << outcome.err;
  }
  EXPECT_EQ(outcome.err.find("[1] "), std::string::npos) << outcome.err;
}

TEST_F(ProfiledGenerate, RefusesFilesThatCannotBe) {
  EXPECT_TRUE(refuses(run_here(generate(path("no/trace.json"))),
                      "--profile " + path("no/trace.json") + ": there is no folder"));
  EXPECT_TRUE(refuses(run_here(generate(path("a.json"))), "a file of --output has this name"));
  EXPECT_TRUE(folder_.names().empty());
}

}  // namespace
}  // namespace ospnext
