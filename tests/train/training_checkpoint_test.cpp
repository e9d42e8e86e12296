// Checkpoints of a training: what a killed run leaves counts as nothing, and what is damaged is
// refused in one sentence. tests/train/ranks has those of several processes, tests/cli those of
// processes that are killed.
#include "train/training_checkpoint.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/training_index.h"
#include "io/weights.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class TrainingCheckpointsTest : public testing::Test {
 protected:
  TrainingCheckpointsTest()
      : parameters_({{"weight", at::zeros({2, 3})}, {"bias", at::zeros({3})}}) {}

  TrainingCheckpoints checkpoints(int64_t keep = 2) const {
    return {folder_.path(), parameters_, keep};
  }
  // The tensors of a training in which all numbers are `value`.
  static TrainingTensors tensors(double value) {
    return {{"parameter", {{"weight", at::full({2, 3}, value)}, {"bias", at::full({3}, value)}}}};
  }
  void save(int64_t step, int64_t keep = 2) const {
    checkpoints(keep).save({.step = step, .numbers = {{"mean", 0.5}}, .objective = {}},
                           tensors(static_cast<double>(step)));
  }
  fs::path file(const std::string& name) const { return folder_ / "step-00000005" / name; }
  void change_index(const std::function<void(json& index)>& change) const {
    json index = read_json_file(file("index.json"));
    change(index);
    write_file(file("index.json"), index.dump());
  }
  // Writes the file of rank `rank` again: n elements of the weight from `first` on, and the bias.
  void write_rank(int rank, int64_t first, int64_t n, at::ScalarType dtype = at::kFloat) const {
    save_safetensors(file(file_of_rank(rank)),
                     {{"parameter.weight", at::full({n}, 5, at::kFloat).to(dtype)},
                      {"parameter.bias", at::full({3}, 5, at::kFloat)}},
                     {{"first", json({{"weight", first}, {"bias", 0}}).dump()}});
  }
  void expect_refused(const std::string& part) const {
    TrainingTensors into = tensors(0);
    try {
      checkpoints().load_newest(into);
      ADD_FAILURE() << "accepted, expected: " << part;
    } catch (const InputError& error) {
      const std::string message = error.what();
      EXPECT_TRUE(message.starts_with((folder_ / "step-00000005").string())) << message;
      EXPECT_NE(message.find(part), std::string::npos) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }
  // Saves a checkpoint, damages it, and expects a refusal.
  void expect_refused_after(const std::function<void()>& damage, const std::string& part) const {
    save(5);
    damage();
    expect_refused(part);
  }

  const TemporaryFolder folder_;
  TrainedParameters parameters_;
};

TEST_F(TrainingCheckpointsTest, TheNewestCompleteOneIsReadAndTheLastOnesStay) {
  for (const int64_t step : {5, 10, 15}) {
    save(step);
  }
  fs::create_directory(folder_ / "step-00000020");  // of a run that was killed
  write_file(folder_ / "step-00000020" / file_of_rank(0), "half");
  TrainingTensors into = tensors(0);
  const auto state = checkpoints().load_newest(into);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->step, 15);
  EXPECT_EQ(state->numbers.at("mean"), 0.5);
  EXPECT_TRUE(at::equal(into["parameter"]["weight"], at::full({2, 3}, 15.0)));
  save(17);
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"step-00000015", "step-00000017"}));
}

TEST_F(TrainingCheckpointsTest, TheBestOneStaysBesideTheLastOnes) {
  EXPECT_EQ(best_checkpoint(folder_.path()), std::nullopt);
  for (const auto& [step, quality] : {std::pair(1, -0.5), {2, 0.25}, {3, -1.0}}) {
    checkpoints(1).save({.step = step, .numbers = {{kCheckpointQuality, quality}}, .objective = {}},
                        tensors(static_cast<double>(step)));
  }
  save(4, 1);  // without a quality
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"step-00000002", "step-00000004"}));
  EXPECT_EQ(best_checkpoint(folder_.path()), folder_ / "step-00000002");
}

TEST_F(TrainingCheckpointsTest, IncompleteOnesLeaveBeforeTheNextNeedsTheirRoom) {
  save(5);
  fs::create_directory(folder_ / "step-00000007");
  fs::create_directory(folder_ / "step-00000009.part");  // no checkpoint: not ours to remove
  TrainingTensors broken = tensors(9);
  broken["parameter"]["bias"] = at::full({3}, 9, at::kComplexFloat);  // no dtype of safetensors
  EXPECT_ANY_THROW(checkpoints().save({.step = 9, .numbers = {}, .objective = {}}, broken));
  EXPECT_EQ(folder_.names(),
            (std::vector<std::string>{"step-00000005", "step-00000009", "step-00000009.part"}));
  EXPECT_EQ(newest_checkpoint(folder_.path()), folder_ / "step-00000005");
}

TEST_F(TrainingCheckpointsTest, DamagedOnesAreRefused) {
  const auto rank_0 = file(file_of_rank(0));
  const std::string not_once = "expected 6, each once";
  expect_refused_after([&] { fs::remove(rank_0); }, file_of_rank(0));
  expect_refused_after([&] { fs::resize_file(rank_0, 100); }, file_of_rank(0));
  expect_refused_after([&] { fs::resize_file(rank_0, fs::file_size(rank_0) - 1); },
                       file_of_rank(0));
  expect_refused_after([&] { fs::resize_file(file("index.json"), 20); }, "index.json");
  expect_refused_after([&] { change_index([](json& index) { index["step"] = 1e300; }); },
                       "index.json: step: found 1e+300");
  expect_refused_after([&] { change_index([](json& index) { index.erase("files"); }); },
                       "index.json: files is missing");
  expect_refused_after([&] { write_rank(0, 0, 5); }, not_once);
  expect_refused_after([&] { write_rank(0, 1, 6); }, not_once);
  expect_refused_after([&] { write_rank(0, int64_t{1} << 47, 6); }, not_once);
  expect_refused_after([&] { write_rank(0, 0, 6, at::kHalf); },
                       "\"parameter.weight\": found F16 [6], expected a row of F32");
  expect_refused_after(
      [&] {
        save_safetensors(rank_0, {{"parameter.weight", at::zeros({6})}});
      },
      "metadata \"first\" is missing");
  expect_refused_after(
      [&] {
        write_rank(0, 0, 3);
        write_rank(1, 0, 3);  // the first half twice, the second not at all
        change_index([](json& index) { index["files"] = {file_of_rank(0), file_of_rank(1)}; });
      },
      not_once);
}

TEST_F(TrainingCheckpointsTest, ThoseOfAnotherModelAreRefused) {
  const std::string another = "the checkpoint is of another model";
  expect_refused_after([&] { change_index([](json& i) {
                               i["shapes"]["weight"] = {3, 2};
                             }); },
                       "\"weight\" is missing or has another shape; " + another);
  expect_refused_after([&] { change_index([](json& i) { i["shapes"].erase("bias"); }); },
                       "\"bias\" is missing or has another shape; " + another);
  expect_refused_after([&] { change_index([](json& i) { i["shapes"]["more"] = {2}; }); },
                       "found \"more\", which is not trained here; " + another);
}

TEST_F(TrainingCheckpointsTest, PartsOfSeveralFilesAreJoined) {
  save(5);
  write_rank(0, 4, 2);
  save_safetensors(file(file_of_rank(7)), {{"parameter.weight", at::arange(4, at::kFloat)}},
                   {{"first", json({{"weight", 0}}).dump()}});
  change_index([](json& index) { index["files"] = {file_of_rank(0), file_of_rank(7)}; });
  TrainingTensors into = tensors(0);
  ASSERT_TRUE(checkpoints().load_newest(into).has_value());
  const std::vector<float> expected = {0, 1, 2, 3, 5, 5};
  EXPECT_TRUE(at::equal(into["parameter"]["weight"], at::tensor(expected).view({2, 3})));
}

}  // namespace
}  // namespace ospnext
