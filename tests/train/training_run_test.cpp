#include "train/training_run.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>

#include "core/torch/random.h"
#include "support/function_objective.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// Fits a linear function on random inputs that depend only on the pass.
class ToyObjective : public FunctionObjective {
 public:
  ToyObjective(const at::Tensor& weight, const std::function<void(int64_t)>& before_pass)
      : FunctionObjective([=](int64_t pass) -> Losses {
          if (before_pass) {
            before_pass(pass);
          }
          const at::Tensor x = at::randn({8, 4}, seeded_generator(3, "toy data", pass));
          const at::Tensor loss = (x.matmul(weight) - x.sum(1) * 2).square().mean();
          loss.backward();
          return {{"loss", loss}};
        }),
        weight_(weight) {}

  Scalars validate() override {
    evaluated.push_back(weight_.detach().clone());
    return {{"validation_loss", (weight_ - 2).square().sum().item<double>()}};
  }

  std::vector<at::Tensor> evaluated;

 private:
  at::Tensor weight_;
};

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

  // Returns the final weights.
  at::Tensor train(const TrainingConfig& config,
                   const std::function<void(int64_t)>& before_step = {}) {
    at::Tensor weight = at::ones({4}).requires_grad_(true);
    Progress progress(nullptr, false);
    TrainedParameters parameters({{"weight", weight}});
    ToyObjective objective(weight, before_step);
    TrainingRun run(config, parameters, objective, progress, *cancel_);
    run.run();
    evaluated_ = objective.evaluated;
    return weight.detach().clone();
  }

  std::vector<std::string> log_lines(const std::string& name) const {
    std::ifstream log(folder_ / name / "log.csv");
    std::vector<std::string> lines;
    for (std::string line; std::getline(log, line);) {
      lines.push_back(line);
    }
    return lines;
  }

  std::vector<at::Tensor> evaluated_;  // the weights of each validation of the last training
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

// An objective that once cannot make a pass.
class RefusingObjective : public ToyObjective {
 public:
  RefusingObjective(const at::Tensor& weight, int64_t refused)
      : ToyObjective(weight, {}), refused_(refused) {}

  Pass add_gradients() override {
    if (asked_++ == refused_) {
      throw NoPass("no data");
    }
    return ToyObjective::add_gradients();
  }

 private:
  int64_t refused_, asked_ = 0;
};

TEST_F(TrainingRunTest, APassThatCannotBeMadeCostsNoStep) {
  const at::Tensor whole = train(config("whole"));
  for (const int64_t refused : {7, 5}) {  // after step 5 there is a checkpoint already
    const std::string name = "refused " + std::to_string(refused);
    at::Tensor weight = at::ones({4}).requires_grad_(true);
    Progress progress(nullptr, false);
    TrainedParameters parameters({{"weight", weight}});
    RefusingObjective objective(weight, refused);
    TrainingRun run(config(name), parameters, objective, progress, *cancel_);
    EXPECT_THROW(run.run(), NoPass);
    const auto newest = newest_checkpoint(folder_ / name / "checkpoints");
    ASSERT_TRUE(newest.has_value());
    EXPECT_EQ(newest->filename(), name_of_step(refused));
    EXPECT_TRUE(torch::equal(train(config(name)), whole));
  }
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
  const std::vector<std::string> lines = log_lines("log");
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0],
            "step,loss,gradient_norm,clipped_norm,clip_limit,learning_rate,seconds_per_step,"
            "samples_per_second,peak_gib");
  EXPECT_EQ(lines[1].substr(0, 2), "4,");
  EXPECT_EQ(lines[2].substr(0, 2), "8,");
  EXPECT_EQ(lines[3].substr(0, 3), "12,");
}

TEST_F(TrainingRunTest, AValidationChangesNothingAndSeesTheAveragesOrTheWeightsOfTheStep) {
  const at::Tensor plain = train(config("plain"));
  TrainingConfig watched = config("watched");
  watched.validation_interval = 5;
  EXPECT_TRUE(at::equal(train(watched), plain));
  ASSERT_EQ(evaluated_.size(), 3U);  // after the steps 5, 10 and 12
  EXPECT_FALSE(at::equal(evaluated_.back(), plain));

  TrainingConfig raw = config("raw");
  raw.validation_interval = 6;
  raw.evaluate_averages = false;
  EXPECT_TRUE(at::equal(train(raw), plain));
  ASSERT_EQ(evaluated_.size(), 2U);
  EXPECT_TRUE(at::equal(evaluated_.back(), plain));
}

TEST_F(TrainingRunTest, ARowOfTheLogHasTheValidationOfItsStep) {
  TrainingConfig watched = config("watched");
  watched.validation_interval = 5;
  watched.log_interval = 12;
  train(watched);
  const std::vector<std::string> lines = log_lines("watched");
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_TRUE(lines[0].ends_with(",validation_loss")) << lines[0];
  for (size_t i = 1; i < lines.size(); ++i) {
    const double logged = std::stod(lines[i].substr(lines[i].rfind(',') + 1));
    const double seen = (evaluated_[i - 1] - 2).square().sum().item<double>();
    EXPECT_NEAR(logged / seen, 1, 1e-6) << lines[i];  // written with seven digits
  }
}

TEST_F(TrainingRunTest, RefusesACheckpointOfAnotherObjective) {
  train(config("state"));
  const fs::path index = folder_ / "state" / "checkpoints" / "step-00000012" / "index.json";
  for (const char* bad : {"{}", "7", R"({"passes": -1})", R"({"passes": 1e300})"}) {
    nlohmann::json json = nlohmann::json::parse(file_text(index));
    json["objective"] = nlohmann::json::parse(bad);
    write_file(index, json.dump());
    try {
      train(config("state"));
      FAIL() << "accepted " << bad;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("step-00000012: objective: passes: found"),
                std::string::npos)
          << error.what();
    }
  }
}

TEST_F(TrainingRunTest, RefusesACheckpointOfAnotherModel) {
  train(config("other"));
  at::Tensor weight = at::ones({5}).requires_grad_(true);
  TrainedParameters parameters({{"weight", weight}});
  Progress progress(nullptr, false);
  ToyObjective objective(weight, {});
  EXPECT_THROW(TrainingRun(config("other"), parameters, objective, progress, *cancel_), InputError);
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
  EXPECT_EQ(log_after(header + "0,1,1,1,1\n0,1,1,1,"), "step 0 4 8 12 ");
}

TEST_F(TrainingRunTest, StopsWithARunErrorWhenTheLossIsNotFinite) {
  at::Tensor weight = at::ones({4}).requires_grad_(true);
  TrainedParameters parameters({{"weight", weight}});
  Progress progress(nullptr, false);
  FunctionObjective objective([&](int64_t) -> Losses {
    const at::Tensor loss = (weight / 0.0).sum();
    loss.backward();
    return {{"loss", loss}};
  });
  TrainingRun run(config("nan"), parameters, objective, progress, *cancel_);
  EXPECT_THROW(run.run(), RunError);
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
