// Runs every input of the corpus. An entry may only throw InputError, within a second and 200 MB.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/fuzz_entry.h"
#include "support/cost.h"

namespace ospnext::fuzz {
namespace {

namespace fs = std::filesystem;

fs::path corpus() {
  return fs::path(OSPNEXT_SOURCE) / "tests/fuzz/corpus";
}

class Replay : public ::testing::TestWithParam<std::pair<const std::string, Entry>> {};

TEST_P(Replay, ReadsOrRefusesItsCorpus) {
  const auto& [name, entry] = GetParam();
  size_t inputs = 0;
  for (const auto& file : fs::directory_iterator(corpus() / name)) {
    std::ifstream in(file.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const Cost cost = cost_of([&] { EXPECT_NO_THROW(run(entry, bytes)) << file.path(); });
    EXPECT_LT(cost.seconds, kMostCost.seconds) << file.path();
    EXPECT_LT(cost.kilobytes, kMostCost.kilobytes) << file.path();
    ++inputs;
  }
  EXPECT_GE(inputs, 3U);
}

INSTANTIATE_TEST_SUITE_P(Fuzz, Replay, ::testing::ValuesIn(entries()),
                         [](const auto& entry) { return entry.param.first; });

TEST(FuzzCorpus, BelongsToEntries) {
  for (const auto& folder : fs::directory_iterator(corpus())) {
    EXPECT_TRUE(entries().contains(folder.path().filename().string())) << folder.path();
  }
}

// Inputs that are too large for the corpus.
TEST(FuzzSpiece, RefusesMillionsOfPiecesCheaply) {
  std::string model;
  for (int i = 0; i < 3'000'000; ++i) {
    model += "\n\3\n\1a";
  }
  const Cost cost = cost_of([&] { EXPECT_THROW(entries().at("spiece")(model), InputError); });
  EXPECT_LT(cost.seconds, kMostCost.seconds);
  EXPECT_LT(cost.kilobytes, kMostCost.kilobytes);
}

}  // namespace
}  // namespace ospnext::fuzz
