#include "train/training_run.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>

#include "core/torch/random.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class TrainingRunTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("ospnext_training_run_" + std::to_string(getpid()));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  TrainingConfig config(const std::string& name) const {
    TrainingConfig config;
    config.output = (folder_ / name).string();
    config.steps = 12;
    config.warmup_steps = 3;
    config.log_interval = 4;
    config.checkpoint_interval = 5;
    return config;
  }

  // Fits a linear function on random inputs that depend only on the step; returns the final
  // weights.
  at::Tensor train(const TrainingConfig& config,
                   const std::function<void(int64_t)>& before_step = {}) {
    at::Tensor weight = at::ones({4}).requires_grad_(true);
    Progress progress(nullptr, false);
    TrainedParameters parameters({{"weight", weight}});
    TrainingRun run(config, parameters, progress, *cancel_);
    run.run([&](int64_t step) -> Losses {
      if (before_step) {
        before_step(step);
      }
      const at::Tensor x = at::randn({8, 4}, seeded_generator(3, "toy data", step));
      const at::Tensor loss = (x.matmul(weight) - x.sum(1) * 2).square().mean();
      loss.backward();
      return {{"loss", loss}};
    });
    return weight.detach().clone();
  }

  std::unique_ptr<CancellationToken> cancel_ = std::make_unique<CancellationToken>();
  fs::path folder_;
};

TEST_F(TrainingRunTest, ResumedAfterAnInterruptEqualsUninterruptedBitForBit) {
  const at::Tensor whole = train(config("whole"));
  EXPECT_THROW(train(config("parts"),
                     [&](int64_t step) {
                       if (step == 6) {
                         cancel_->cancel();
                       }
                     }),
               Cancelled);
  cancel_ = std::make_unique<CancellationToken>();
  const at::Tensor resumed = train(config("parts"));
  EXPECT_TRUE(at::equal(whole, resumed));
  EXPECT_FALSE(at::equal(whole, at::ones({4})));
}

TEST_F(TrainingRunTest, LogHasARowAnIntervalAlsoAfterResuming) {
  EXPECT_THROW(train(config("log"),
                     [&](int64_t step) {
                       if (step == 9) {
                         cancel_->cancel();
                       }
                     }),
               Cancelled);
  cancel_ = std::make_unique<CancellationToken>();
  train(config("log"));
  std::ifstream log(folder_ / "log" / "log.csv");
  std::vector<std::string> lines;
  for (std::string line; std::getline(log, line);) {
    lines.push_back(line);
  }
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0], "step,learning_rate,seconds_per_step,loss,gradient_norm");
  EXPECT_EQ(lines[1].substr(0, 2), "4,");
  EXPECT_EQ(lines[2].substr(0, 2), "8,");
  EXPECT_EQ(lines[3].substr(0, 3), "12,");
}

TEST_F(TrainingRunTest, RefusesACheckpointOfAnotherModel) {
  train(config("other"));
  at::Tensor weight = at::ones({5}).requires_grad_(true);
  TrainedParameters parameters({{"weight", weight}});
  Progress progress(nullptr, false);
  EXPECT_THROW(TrainingRun(config("other"), parameters, progress, *cancel_), InputError);
}

TEST_F(TrainingRunTest, RefusesACheckpointOfMoreSteps) {
  train(config("long"));
  TrainingConfig shorter = config("long");
  shorter.steps = 10;
  try {
    train(shorter);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()), "`steps`: found 10, but the checkpoint in " +
                                             shorter.output +
                                             " has 12 finished steps; expected at least as many");
  }
}

TEST_F(TrainingRunTest, OneTrainingAtATimeHasTheOutputFolder) {
  auto first = lock_output(config("taken"), /*leads=*/true);
  EXPECT_EQ(lock_output(config("taken"), /*leads=*/false), nullptr);
  EXPECT_THROW(lock_output(config("taken"), /*leads=*/true), InputError);
  EXPECT_NO_THROW(lock_output(config("other"), /*leads=*/true));
  first.reset();
  EXPECT_NO_THROW(lock_output(config("taken"), /*leads=*/true));
}

TEST_F(TrainingRunTest, ALogThatAFullDiskCutGoesOnWithWholeRows) {
  fs::create_directories(folder_ / "cut");
  const auto log_after = [&](const std::string& text) {
    std::ofstream(folder_ / "cut" / "log.csv") << text;
    fs::remove_all(folder_ / "cut" / "checkpoints");
    train(config("cut"));
    std::ifstream log(folder_ / "cut" / "log.csv");
    std::string line, steps;
    while (std::getline(log, line)) {
      steps += line.substr(0, line.find(',')) + " ";
    }
    return steps;
  };
  const std::string header = "step,learning_rate,seconds_per_step,loss,gradient_norm\n";
  EXPECT_EQ(log_after(""), "step 4 8 12 ");
  EXPECT_EQ(log_after("step,learn"), "step 4 8 12 ");
  EXPECT_EQ(log_after(header + "0,1,1,1,1\n0,1\n99999999999999999999,1,1,1,1\n0,1,1,1,"),
            "step 0 4 8 12 ");
}

TEST_F(TrainingRunTest, StopsWithARunErrorWhenTheLossIsNotFinite) {
  at::Tensor weight = at::ones({4}).requires_grad_(true);
  TrainedParameters parameters({{"weight", weight}});
  Progress progress(nullptr, false);
  TrainingRun run(config("nan"), parameters, progress, *cancel_);
  EXPECT_THROW(run.run([&](int64_t) -> Losses {
    const at::Tensor loss = (weight / 0.0).sum();
    loss.backward();
    return {{"loss", loss}};
  }),
               RunError);
}

TEST_F(TrainingRunTest, RefusesConfigurationsOutsideTheirRules) {
  TrainingConfig bad = config("bad");
  bad.learning_rate = -1;
  try {
    bad.check();
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "`learning_rate`: found -1.0, expected 1e-12 to 10.0");
  }
  bad = config("bad");
  bad.warmup_steps = 13;
  EXPECT_THROW(bad.check(), InputError);
}

}  // namespace
}  // namespace ospnext
