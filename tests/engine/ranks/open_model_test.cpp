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
    for (const Job& job : it.jobs()) {
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

}  // namespace
}  // namespace ospnext
