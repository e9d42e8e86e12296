// Trainings that a guard ends, and clips of before and after.
#include <gtest/gtest.h>

#include "io/video_reader.h"
#include "rl/small_grpo.h"
#include "train/training_checkpoint.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// A reward that gives all videos of the k-th batch the k-th of some numbers, and later ones the
// last.
std::string numbers_of_batches(const fs::path& folder, const std::string& numbers) {
  write_file(folder / "numbers.py", R"(
import json, pathlib, sys
videos = json.loads(sys.stdin.buffer.readline())["videos"]
numbers = [float(word) for word in sys.argv[1].split(",")]
calls = pathlib.Path(sys.argv[2])
k = len(calls.read_text()) if calls.exists() else 0
calls.write_text("." * (k + 1))
print(json.dumps({"scores": [numbers[min(k, len(numbers) - 1)]] * videos}))
)");
  return "command:python3 " + (folder / "numbers.py").string() + " " + numbers + " " +
         (folder / "calls").string();
}

TEST(GuardedTraining, EndsAndWritesTheBestCheckpointOfBefore) {
  const SmallGrpo it;
  RlConfig config = it.config("guarded");
  config.rollout.batches_per_epoch = 1;
  config.watch = {numbers_of_batches(it.folder(), "1,1.2,0.9,0.3")};
  config.guard = {config.watch.front() + ":0.5x:", "diversity:0:"};
  config.guard_epochs = 1;
  config.epochs = 8;
  config.save_every = 1;
  EXPECT_TRUE(train_quietly(config));
  EXPECT_EQ(log_column(config.output, "reward/motion_mean").size(), 4U);  // epochs
  const std::vector<double> totals = log_column(config.output, "reward/total_mean");
  const auto best = std::max_element(totals.begin(), totals.end() - 1) - totals.begin();
  EXPECT_EQ(best_checkpoint(fs::path(config.output) / "checkpoints")->filename(),
            name_of_step(best + 1));

  EXPECT_TRUE(train_quietly(config));  // it stays ended
  EXPECT_EQ(log_column(config.output, "reward/motion_mean").size(), 4U);

  RlConfig shorter = it.config("shorter");
  shorter.rollout.batches_per_epoch = 1;
  shorter.epochs = best + 1;
  EXPECT_TRUE(train_quietly(shorter));
  EXPECT_TRUE(torch::equal(lora_row(config), lora_row(shorter)));
}

// The luma of BT.601: [F, H, W, 3] uint8 -> [F, H, W]
at::Tensor brightness(const at::Tensor& frames) {
  return frames.to(at::kFloat).matmul(at::tensor({0.299F, 0.587F, 0.114F}));
}

TEST(GuardedTraining, ShowsTheSamePromptsBeforeAndAfter) {
  const SmallGrpo it;
  RlConfig config = it.config("shown");
  config.rollout.batches_per_epoch = 1;
  config.watch = {};
  write_file(it.folder() / "shown.txt", "a red ball\ngrass\n");
  config.eval_prompts = it.folder() / "shown.txt";
  config.eval_steps = 2;
  config.eval_format = "y4m";
  config.update.ema.decay = 0.1;
  config.update.learning_rate = 0.05;
  EXPECT_TRUE(train_quietly(config));
  const fs::path samples = fs::path(config.output) / "samples";
  const auto frames = [&](const std::string& file) { return read_frames(samples / file, {}, 100); };
  const at::Tensor both = frames("step-00000002/before_after.y4m");  // [2·5, 32, 2·48, 3]
  ASSERT_EQ(both.sizes(), (std::vector<int64_t>{10, 32, 96, 3}));
  for (const int64_t clip : {0, 1}) {
    const std::string name = std::to_string(clip + 1) + ".y4m";
    const at::Tensor shown = brightness(both.narrow(0, 5 * clip, 5));  // [5, 32, 96]
    const auto error = [&](int64_t column, const std::string& step) {
      const at::Tensor half = shown.narrow(2, column, 48);  // [5, 32, 48]
      return (half - brightness(frames(step + "/" + name))).abs().mean().item<double>();
    };
    // A file that is written once more in 4:2:0 keeps its brightness, but for rounding.
    EXPECT_LT(4 * error(0, "step-00000000"), error(0, "step-00000002"));
    EXPECT_LT(4 * error(48, "step-00000002"), error(48, "step-00000000"));
  }
}

}  // namespace
}  // namespace ospnext
