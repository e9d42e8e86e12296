// One open model runs job after job as fresh models do, and keeps no memory of them.
#include "engine/video_model.h"

#include <gtest/gtest.h>

#include <fstream>

#include "engine/jobs.h"
#include "engine/memory.h"

namespace ospnext {
namespace {

// Bytes of this process that are in memory.
int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t all = 0, resident = 0;
  file >> all >> resident;
  constexpr int64_t kPage = 4096;
  return resident * kPage;
}

TEST(VideoModel, JobsOfAnOpenModelEqualThoseOfFreshOnes) {
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  VideoModel open(source, {});
  std::map<std::string, at::Tensor> seen;
  for (const VideoJob& job : it.jobs()) {
    const at::Tensor video = it.run(open, job);
    if (job.cancelled_at > 0) {
      EXPECT_FALSE(video.defined());
      continue;
    }
    VideoModel fresh(source, {});
    EXPECT_TRUE(torch::equal(video, it.run(fresh, job))) << job.prompt;
    std::string name = job.prompt + std::to_string(job.width) + std::to_string(job.num_frames);
    for (const auto& [adapter, strength] : job.adapters) {
      name += adapter + std::to_string(strength);
    }
    seen.emplace(name, video);
  }
  EXPECT_EQ(seen.size(), 5u);  // each adapter changes the video
  EXPECT_GT(relative_l2(seen.at("a red ball485"), seen.at("a red ball485a1.000000")), 1e-3);
}

TEST(VideoModel, WithOffloadedWeightsMakesTheSameVideos) {
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  VideoModel resident(source, {}), offloaded(source, {.offload = true});
  const VideoJob with_adapter = it.jobs()[1], cancelled = it.jobs()[3];
  EXPECT_FALSE(it.run(offloaded, cancelled).defined());
  EXPECT_TRUE(torch::equal(it.run(offloaded, with_adapter), it.run(resident, with_adapter)));
}

TEST(VideoModel, MemoryIsFlatFromJobToJob) {
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  VideoModel open(source, {});
  const VideoJob job = it.jobs()[1], other = it.jobs()[2];
  const auto run_jobs = [&](int count) {
    for (int i = 0; i < count; ++i) {
      it.run(open, i % 2 == 0 ? job : other);
    }
    return resident_bytes();
  };
  const int64_t before = run_jobs(8);
  constexpr int64_t kJobs = 32;
  // The allocator's own growth is a few MiB in all. A model of 4 MiB kept by each job would show.
  EXPECT_LT((run_jobs(kJobs) - before) / kJobs, int64_t{512} << 10);
}

TEST(VideoModel, MemoryOfAGpuIsFlatFromJobToJob) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "needs a CUDA GPU";
  }
  const at::Device device(at::kCUDA, 0);
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  VideoModel open(source, {.device = device, .dtype = at::kBFloat16});
  const auto peak_of_jobs = [&] {
    reset_peak_memory(device);
    for (const VideoJob& job : it.jobs()) {
      it.run(open, job);
    }
    return peak_memory(device).cuda_bytes;
  };
  peak_of_jobs();  // records the steps of each size, and keeps that
  const int64_t first = peak_of_jobs();
  for (int i = 0; i < 4; ++i) {
    // The allocator rounds to 2 MiB. A model or a recording kept by each job would be more.
    EXPECT_NEAR(peak_of_jobs(), first, 2 << 20) << i;
  }
}

TEST(VideoModel, AdaptersThatDoNotFitAreRefused) {
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  const VideoModel open(source, {});
  const TemporaryFolder folder;
  const auto refused = [&](const std::map<std::string, at::Tensor>& tensors) -> std::string {
    save_safetensors(folder / "lora.safetensors", tensors);
    try {
      open.read_adapter(folder / "lora.safetensors");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  const std::string linear = "diffusion_model.blocks.0.self_attn.q";
  EXPECT_NE(refused({{linear + ".lora_A.weight", torch::zeros({4, 7})},
                     {linear + ".lora_B.weight", torch::zeros({128, 4})}})
                .find("blocks.0.self_attn.q"),
            std::string::npos);
  EXPECT_NE(refused({{"diffusion_model.blocks.0.norm3.diff", torch::zeros({128})}})
                .find("expected changes of low rank"),
            std::string::npos);
}

}  // namespace
}  // namespace ospnext
