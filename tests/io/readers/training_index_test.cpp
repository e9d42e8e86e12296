// The index of a training's checkpoint comes back as it was written; what no training writes is
// refused. tests/train/training_checkpoint_test.cpp reads whole checkpoints.
#include "io/readers/training_index.h"

#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

using nlohmann::json;

TrainingIndex example() {
  return {20,
          {file_of_rank(0), file_of_rank(3)},
          {{"mean", 0.25}},
          {{"head.bias", {64}}, {"head.weight", {64, 32}}}};
}

void expect_refused(const json& index, const std::string& message) {
  try {
    training_index_from_json(index, "index.json");
    ADD_FAILURE() << "accepted " << index;
  } catch (const InputError& error) {
    EXPECT_EQ(error.what(), message);
  }
}

TEST(TrainingIndexTest, ComesBackAsWritten) {
  const TrainingIndex read =
      training_index_from_json(json::parse(example().json().dump()), "index.json");
  EXPECT_EQ(read.json(), example().json());
  EXPECT_EQ(read.step, 20);
  EXPECT_EQ(read.files.back(), "rank-00003.safetensors");
  EXPECT_EQ(read.shapes.at("head.weight"), (std::vector<int64_t>{64, 32}));
}

TEST(TrainingIndexTest, RefusesWhatNoTrainingWrites) {
  const auto with = [](const char* key, const json& value) {
    json index = example().json();
    index[key] = value;
    return index;
  };
  json without_step = example().json();
  without_step.erase("step");
  const std::string steps = ", expected a whole number from 0 to 1000000000";
  expect_refused(7, "index.json: found 7, expected an object");
  expect_refused(without_step, "index.json: step is missing");
  expect_refused(with("format", 2), "index.json: format: found 2, expected 1");
  expect_refused(with("step", -1), "index.json: step: found -1" + steps);
  expect_refused(with("step", 1e300), "index.json: step: found 1e+300" + steps);
  expect_refused(with("step", uint64_t{1} << 63),
                 "index.json: step: found 9223372036854775808" + steps);
  expect_refused(with("files", json::array()),
                 "index.json: files: found [], expected names of files");
  expect_refused(with("files", {"rank-../../a.safetensors"}),
                 "index.json: files: found \"rank-../../a.safetensors\", expected a name like "
                 "rank-00000.safetensors");
  expect_refused(with("files", {file_of_rank(1), file_of_rank(1)}),
                 "index.json: files: found rank-00001.safetensors twice");
  expect_refused(with("numbers", {{"mean", nullptr}}),
                 "index.json: numbers: \"mean\": found null, expected a number");
  expect_refused(
      with("shapes", {{"a", {1 << 30, 1 << 30, 1 << 30}}}),
      "index.json: shapes: \"a\": found [1073741824,1073741824,1073741824], expected the "
      "sides of a tensor that fits into memory");
}

}  // namespace
}  // namespace ospnext
