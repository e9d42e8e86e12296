// Predictions of training steps against steps that were measured, and against each other.
#include "train/training_plan.h"

#include <gtest/gtest.h>

#include "io/readers/bounded_json.h"
#include "packages/part_layouts.h"
#include "packages/random_model.h"
#include "support/paths.h"
#include "train/training_settings.h"

namespace ospnext {
namespace {

constexpr double kGibi = 1 << 30;
const Grid kSd{21, 30, 52};  // 480P

TrainingSubject subject_of(const std::string& size) {
  TrainingSubject subject;
  subject.model.transformer = released_transformer(size, "test");
  subject.model.transformer.skiparse_model_type = "dual_end";
  subject.model.transformer.num_full_blocks = 8;
  subject.model.grid = kSd;
  subject.model.costs = h200_block_costs(subject.model.transformer, /*hif8=*/false);
  return subject;
}

TrainingPlan plan_of(const TrainingSetting& setting, const TrainingSubject& subject) {
  return predict_training(
      setting, subject,
      pass_work(subject.model.transformer, subject.model.grid, setting.mesh.sequence));
}

struct MeasuredStep {
  std::string name;
  TrainingSubject subject;
  TrainingSetting setting;
  double seconds, gib, sent_gb;  // 0: not measured
};

MeasuredStep measured_step(const nlohmann::json& row) {
  MeasuredStep step;
  step.name = row.dump();
  step.subject = subject_of(row.at("size"));
  TransformerConfig& transformer = step.subject.model.transformer;
  transformer.num_layers = row.value("layers", transformer.num_layers);
  transformer.skiparse_model_type = row.value("model_type", "dual_end");
  transformer.num_full_blocks =
      transformer.skiparse_model_type == "full" ? 0 : row.value("num_full_blocks", 8);
  step.subject.batch_size = row.value("batch_size", 1);
  Mesh& mesh = step.setting.mesh;
  mesh.data = row.value("data_parallel", 1);
  mesh.sequence = {row.value("ssp", 1), row.value("ulysses", 1), row.value("ring", 1)};
  EXPECT_EQ(mesh.size(), row.value("gpus", 1)) << step.name;
  step.setting.shard_group = row.value("shard_group", 1);
  step.setting.checkpointing =
      CheckpointingFields{row.at("recompute"), row.value("offload_activations", false)}.parse();
  step.subject.state.offload_optimizer = row.value("offload_optimizer", false);
  step.subject.state.offload_weights = row.value("offload_weights", false);
  step.seconds = row.value("seconds", 0.0);
  step.gib = row.value("gib", 0.0);
  step.sent_gb = row.value("sent_gb", 0.0);
  return step;
}

TEST(TrainingPlan, IsWithin15PercentOfMeasuredSteps) {
  constexpr double kBar = 0.15, kMemoryBar = 0.05, kBytesBar = 0.02;
  const auto json = read_json_object(fixture_path("training/measured_steps.json"));
  for (const auto& row : json.at("steps")) {
    const MeasuredStep step = measured_step(row);
    const TrainingPlan plan = plan_of(step.setting, step.subject);
    const double gib = static_cast<double>(plan.memory.on_gpu()) / kGibi;
    const double sent = static_cast<double>(plan.bytes) / 1e9;
    EXPECT_NEAR(plan.seconds(), step.seconds, kBar * step.seconds) << step.name;
    if (step.gib > 0) {
      EXPECT_NEAR(gib, step.gib, kMemoryBar * step.gib) << step.name;
    }
    if (step.sent_gb > 0) {
      EXPECT_NEAR(sent, step.sent_gb, kBytesBar * step.sent_gb) << step.name;
    }
  }
}

TEST(TrainingPlan, CountsWhatABlockKeepsOfAToken) {
  const TokenBytes narrow = token_bytes(released_transformer("1.3b", "test"), {});
  EXPECT_EQ(narrow.input, 3072);
  EXPECT_EQ(narrow.input + narrow.attention, 6192);
  EXPECT_EQ(narrow.everything, 88168);
  EXPECT_EQ(token_bytes(released_transformer("14b", "test"), {}).everything, 229704);
}

TEST(TrainingPlan, CountsTheParametersOfTheModel) {
  for (const char* const size : {"1.3b", "14b"}) {
    const TransformerConfig transformer = released_transformer(size, "test");
    int64_t block = 0, around = 0;
    for (const auto& [name, shape] : part_shapes(transformer)) {
      int64_t& sum = name.starts_with("blocks.") ? block : around;
      sum += c10::multiply_integers(shape);
    }
    const ParameterCounts counts = count_parameters(transformer, 32);
    EXPECT_EQ(counts.block * transformer.num_layers, block);
    EXPECT_EQ(counts.around, around);
    EXPECT_EQ(counts.pairs, 8 * 2 * 32 * transformer.dim);
  }
}

TEST(TrainingPlan, ShardsAndHostMemoryTakeTheirPartOffTheGpu) {
  TrainingSubject subject = subject_of("14b");
  const TrainingSetting alone{{}, 1, {}};
  const TrainingSetting eighth{{.sequence = {4, 2, 1}}, 8, {}};
  const ParameterCounts counts = count_parameters(subject.model.transformer, 0);
  const TrainingMemory whole = plan_of(alone, subject).memory;
  const TrainingMemory part = plan_of(eighth, subject).memory;
  EXPECT_EQ(whole.weights, 4 * (40 * counts.block + counts.around));
  EXPECT_EQ(whole.moments, 2 * whole.weights);
  EXPECT_EQ(whole.gathered, 0);
  EXPECT_EQ(part.gradients, 4 * (40 * counts.block / 8 + counts.around));
  EXPECT_GT(part.gathered, 0);
  subject.state.offload_optimizer = subject.state.offload_weights = true;
  const TrainingPlan hosted = plan_of(eighth, subject);
  EXPECT_EQ(hosted.memory.moments + hosted.memory.averages, 0);
  EXPECT_EQ(hosted.memory.weights, 4 * counts.around);
  EXPECT_EQ(hosted.memory.host_state,
            20 * (40 * counts.block / 8 + counts.around) - 8 * counts.around);
  EXPECT_GT(hosted.transfer, 0);
}

TEST(TrainingPlan, PairsOverFrozenWeightsNeedNoStateOfTheModel) {
  TrainingSubject subject = subject_of("14b");
  const TrainingSetting alone{{}, 1, {}};
  const TrainingPlan full = plan_of(alone, subject);
  subject.state.lora_rank = 16;
  const TrainingPlan pairs = plan_of(alone, subject);
  const int64_t trained = 40 * count_parameters(subject.model.transformer, 16).pairs;
  EXPECT_EQ(pairs.memory.moments, 8 * trained);
  EXPECT_EQ(pairs.memory.weights, full.memory.weights / 2 + 4 * trained);
  EXPECT_LT(pairs.memory.activations, full.memory.activations);
  EXPECT_LT(pairs.seconds(), full.seconds());
}

TEST(TrainingPlan, WhatIsKeptNeedsMemoryAndSavesSeconds) {
  const TrainingSubject subject = subject_of("1.3b");
  TrainingPlan before;
  for (const char* const recompute : {"none", "20", "10", "all"}) {
    const auto checkpointing = CheckpointingFields{recompute, false}.parse();
    const TrainingPlan plan = plan_of({{}, 1, checkpointing}, subject);
    if (before.seconds() > 0) {
      EXPECT_LT(plan.memory.on_gpu(), before.memory.on_gpu()) << recompute;
      EXPECT_GT(plan.seconds(), before.seconds()) << recompute;
    }
    before = plan;
  }
  const TrainingPlan hosted = plan_of({{}, 1, CheckpointingFields{"all", true}.parse()}, subject);
  EXPECT_EQ(hosted.memory.host_activations, int64_t{30} * 32760 * 1536 * 2);
  EXPECT_LT(hosted.memory.on_gpu(), before.memory.on_gpu());
}

TrainingWishes with_memory(double gib) {
  TrainingWishes wishes;
  wishes.memory = static_cast<int64_t>(gib * kGibi);
  return wishes;
}

TEST(TrainingSettings, BeginWithTheFastestThatFits) {
  TrainingSubject subject = subject_of("1.3b");
  subject.batch_size = 4;
  const TrainingWishes wishes = with_memory(30);
  const auto plans = training_plans(4, wishes, subject);
  ASSERT_LE(plans.front().memory.on_gpu(), wishes.memory);
  bool fits = true;
  for (size_t i = 1; i < plans.size(); ++i) {
    const bool fits_too = plans[i].memory.on_gpu() <= wishes.memory;
    EXPECT_TRUE(fits || !fits_too);
    if (fits_too) {
      EXPECT_LE(plans[i - 1].seconds(), plans[i].seconds());
    }
    fits = fits_too;
  }
  EXPECT_FALSE(fits);  // without shards, weights and their state alone take 26 GiB
  EXPECT_EQ(plans.front().setting.mesh.size(), 4);
  EXPECT_EQ(recompute_text(CheckpointingFields{"7", false}.parse()), "7");
}

TEST(TrainingSettings, MoreMemoryLetsMoreBlocksKeepEverything) {
  const TrainingSubject subject = subject_of("1.3b");
  TrainingWishes wishes = with_memory(35);
  const auto free = [&](double gib) {
    wishes.memory = static_cast<int64_t>(gib * kGibi);
    return training_plans(1, wishes, subject).front().setting.checkpointing.free_blocks;
  };
  const TrainingPlan large = training_plans(1, with_memory(130), subject).front();
  EXPECT_EQ(large.setting.checkpointing.kept, Checkpointing::Kept::kEverything);
  EXPECT_GT(free(75), free(65));
}

TEST(TrainingSettings, SayWhatMakesATrainingSmaller) {
  const TrainingSubject subject = subject_of("14b");
  const TrainingWishes wishes = with_memory(70);
  const auto plans = training_plans(2, wishes, subject);
  const int64_t least = plans.front().memory.on_gpu();
  ASSERT_GT(least, wishes.memory);
  const auto smaller = smaller_trainings(2, wishes, subject, least);
  ASSERT_FALSE(smaller.empty());
  EXPECT_EQ(smaller.front().change, "`lora_rank` 32");
  EXPECT_LT(smaller.front().bytes, wishes.memory);
  for (const SmallerTraining& one : smaller) {
    EXPECT_LT(one.bytes, least) << one.change;
  }
}

TEST(TrainingSettings, RefuseWishesThatNothingMeets) {
  TrainingSubject subject = subject_of("1.3b");
  subject.batch_size = 3;
  TrainingWishes wishes = with_memory(139);
  wishes.shard_group = 3;
  EXPECT_THROW(training_plans(4, wishes, subject), InputError);
  wishes = with_memory(139);
  wishes.mesh.data_parallel = 2;
  EXPECT_THROW(training_plans(4, wishes, subject), InputError);
  wishes = with_memory(139);
  wishes.recompute = "some";
  EXPECT_THROW(training_plans(4, wishes, subject), InputError);
  wishes.recompute = "none";
  EXPECT_FALSE(training_plans(4, wishes, subject).empty());
  subject.state.offload_weights = true;
  EXPECT_THROW(training_plans(4, wishes, subject), InputError);
}

}  // namespace
}  // namespace ospnext
