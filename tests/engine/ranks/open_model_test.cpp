// Four processes share an open model: each job equals that of a fresh model, and a job that one of
// them cancels ends on all and leaves the world alive.
#include <gtest/gtest.h>

#include "engine/jobs.h"
#include "support/run_worlds.h"

namespace ospnext {
namespace {

void expect_equal_to_fresh(const Mesh& mesh, bool shard_weights) {
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  run_worlds(4, [&](const std::shared_ptr<World>& world) {
    VideoModel open(source, {}, work_ranks(world, mesh, 4, shard_weights));
    for (const VideoJob& job : it.jobs()) {
      const at::Tensor video = it.run(open, job);
      EXPECT_EQ(video.defined(), job.cancelled_at == 0) << job.prompt;
      if (job.cancelled_at == 0) {
        // Whole weights, where the open model has shards of them: equal all the same.
        VideoModel fresh(source, {}, work_ranks(world, mesh, 4, /*shard_weights=*/false));
        EXPECT_TRUE(torch::equal(video, it.run(fresh, job))) << job.prompt;
      }
    }
  });
}

TEST(OpenModelOnRanks, EqualsFreshModelsAndOutlivesCancelledJobs) {
  expect_equal_to_fresh({.data = 1, .cfg = 2, .sequence = {2, 1, 1}}, false);
}

TEST(OpenModelOnRanks, WithUlyssesAndARing) {
  expect_equal_to_fresh({.data = 1, .cfg = 1, .sequence = {1, 2, 2}}, false);
}

TEST(OpenModelOnRanks, WithShardedWeights) {
  expect_equal_to_fresh({.data = 1, .cfg = 2, .sequence = {2, 1, 1}}, true);
}

// Keeps the latents of samples.
struct Latents : VideoReceiver {
  std::vector<at::Tensor> all;
  void latent(size_t, const at::Tensor& latent) override { all.push_back(latent.clone()); }
  void frames(size_t, const at::Tensor&) override {}
  void finished(size_t) override {}
};

// Five videos, two at a time in each of two groups of processes: 2 and 2, and then 1 and none.
TEST(OpenModelOnRanks, GroupsShareOutBatches) {
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  GenerationConfig config;
  config.width = 48, config.height = 32, config.num_frames = 5, config.steps = 2;
  config.negative_prompt = "";
  std::vector<VideoSample> samples;
  for (const char* const prompt : {"a red ball", "grass", "a blue cube spins", "a", "a ball"}) {
    samples.push_back({.prompt = prompt, .seed = samples.size(), .noise = {}});
  }
  run_worlds(2, [&](const std::shared_ptr<World>& world) {
    VideoModel model(source, {},
                     work_ranks(world, {.data = 2, .cfg = 1, .sequence = {1, 1, 1}}, 4, true));
    Progress progress(nullptr, false);
    const CancellationToken never;
    Latents batched, alone;
    make_videos(model, config, samples, batched, {progress, never}, /*batch=*/2);
    make_videos(model, config, samples, alone, {progress, never});
    for (size_t i = 0; i < batched.all.size(); ++i) {
      EXPECT_LT(relative_l2(batched.all[i], alone.all[i]), 1e-5) << i;
    }
    EXPECT_EQ(batched.all.size(), model.ranks().leads() ? samples.size() : 0u);
  });
}

}  // namespace
}  // namespace ospnext
