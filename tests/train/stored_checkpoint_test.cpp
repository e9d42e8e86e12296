#include "train/stored_checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "io/readers/training_index.h"
#include "io/weights.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using nlohmann::json;

class StoredCheckpointTest : public testing::Test {
 protected:
  // A tensor "x" [2, 3] whose elements 0, 1, ... lie in two files.
  StoredCheckpointTest() {
    write_rank(0, "0", at::arange(2, at::kFloat));
    write_rank(1, "2", at::arange(2, 6, at::kFloat));
    write_index(json::object());
  }

  void write_rank(int rank, const std::string& first, const at::Tensor& values) const {
    save_safetensors(folder_ / file_of_rank(rank), {{"ema.x", values}},
                     {{kCheckpointFirst, "{\"x\": " + first + "}"}});
  }
  void write_index(const json& changes) const {
    json index = {{"format", 1},
                  {"step", 5},
                  {"files", {"rank-00000.safetensors", "rank-00001.safetensors"}},
                  {"numbers", {{"mean", 0.5}}},
                  {"shapes", {{"x", {2, 3}}}}};
    index.update(changes);
    std::ofstream(folder_ / kCheckpointIndex) << index.dump();
  }
  void expect_refusal(const std::string& part) const {
    try {
      StoredCheckpoint(folder_.path()).read("ema", "x");
      FAIL() << "expected a refusal: " << part;
    } catch (const InputError& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(part), std::string::npos) << message;
      EXPECT_EQ(message.find(folder_.path().string()), 0U) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }

  const TemporaryFolder folder_;
};

TEST_F(StoredCheckpointTest, JoinsThePartsOfATensor) {
  const StoredCheckpoint stored(folder_.path());
  EXPECT_EQ(stored.state().step, 5);
  EXPECT_EQ(stored.state().numbers.at("mean"), 0.5);
  EXPECT_TRUE(stored.model().is_null());
  const at::Tensor whole = at::arange(6, at::kFloat).view({2, 3});  // [2, 3]
  EXPECT_TRUE(at::equal(stored.read("ema", "x"), whole));
  const at::Tensor part = at::empty({3});
  stored.read("ema", "x", 1, part);
  EXPECT_TRUE(at::equal(part, at::arange(1, 4, at::kFloat)));
}

TEST_F(StoredCheckpointTest, RefusesPartsThatDoNotMakeATensor) {
  write_rank(1, "3", at::ones({3}));
  expect_refusal("ema of \"x\": found 5 elements, expected 6");
  write_rank(1, "1", at::ones({4}));  // overlaps, as many as there should be
  expect_refusal("ema of \"x\": found 2 elements, expected 6");
  write_rank(1, "3", at::ones({4}));  // a gap
  expect_refusal("ema of \"x\": found 2 elements, expected 6");
  write_rank(1, "2", at::ones({2, 2}));
  expect_refusal("expected a row of F32");
  write_rank(1, "2", at::ones({4}, at::kHalf));
  expect_refusal("expected a row of F32");
  write_rank(1, "-2", at::ones({4}));
  expect_refusal("found -2, expected a whole number from 0 to ");
  write_rank(1, "9223372036854775807", at::ones({4}));
  expect_refusal("found 9223372036854775807, expected a whole number from 0 to ");
}

TEST_F(StoredCheckpointTest, RefusesBrokenIndices) {
  write_index({{"shapes", {{"x", {2, -3}}}}});
  expect_refusal("shapes: \"x\": found -3, expected a whole number from 0 to ");
  write_index({{"shapes", {{"x", {int64_t{1} << 40, int64_t{1} << 40}}}}});
  expect_refusal("expected the sides of a tensor");
  write_index({{"shapes", {{"x", {1'000'000, 1'000'000}}}}});
  expect_refusal("found 6 elements, expected 1000000000000");
  write_index({{"shapes", 3}});
  expect_refusal("index.json: ");
  write_index({{"format", 7}});
  expect_refusal("format: found 7, expected 1");
  write_index({{"files", {"../rank-00000.safetensors"}}});
  expect_refusal("expected a name like rank-00000.safetensors");
  write_index({{"files", {"rank-/../../x"}}});
  expect_refusal("expected a name like rank-00000.safetensors");
  write_index({{"files", {"rank-00007.safetensors"}}});
  expect_refusal("rank-00007.safetensors");
  std::filesystem::remove(folder_ / kCheckpointIndex);
  expect_refusal("found no index.json, expected a complete checkpoint");
  std::filesystem::remove_all(folder_.path());
  expect_refusal("found no such directory, expected a complete checkpoint");
}

}  // namespace
}  // namespace ospnext
