// One open model runs job after job as fresh models do, and keeps no memory of them.
#include "engine/video_model.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/torch/random.h"
#include "engine/jobs.h"
#include "engine/memory.h"
#include "support/on_device.h"

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

class VideoModelOnDevice : public OnDevice {};
INSTANTIATE_ON_DEVICES(VideoModelOnDevice);

// Adapters "a", from a noise level on, and "b" equal those that are changed by hand between steps.
TEST_P(VideoModelOnDevice, AdaptersActFromTheirLowestNoiseLevelOn) {
  const torch::NoGradGuard no_grad;
  const OpenModelJobs it;
  const ModelFileSource source = it.source();
  const ComputeOptions compute{.device = at::Device(GetParam(), GetParam() == at::kCUDA ? 0 : -1)};
  VideoModel model(source, compute);
  model.load_transformer();
  model.load_text_encoder();
  Progress progress(nullptr, false);
  const CancellationToken cancel;
  const JobControl job{progress, cancel};
  model.embed({"a red ball", ""}, job);
  Transformer by_hand = source.transformer(compute);
  const auto adapter = [&](const std::string& layer, double level) {
    const at::Generator generator = seeded_generator(3, layer);
    return std::make_shared<const Adapter>(
        make_adapter({{layer + ".weight", at::randn({4, 128}, generator) * 0.2,
                       at::randn({128, 4}, generator) * 0.2, 1.0, level}},
                     compute.device));
  };
  const auto a = adapter("blocks.0.self_attn.q", 0), b = adapter("blocks.3.cross_attn.o", 0);
  const at::Tensor noise = at::randn({1, 16, 2, 4, 6}, seeded_generator(3, "noise"));
  const auto expected = [&](const GenerationConfig& config, double lowest) {
    const GuidingTexts texts{.prompts = {model.text_rows("a red ball")},
                             .negative = model.text_rows(""),
                             .scale = config.guidance_scale};
    const Execution run = by_hand->inference();
    const Guidance guidance = guide(by_hand, texts, run);
    const TokenTables tables(by_hand->config(), token_grid(noise), compute.device);
    const VelocityFunction velocity = [&](const at::Tensor& x, const at::Tensor& time, double s) {
      set_adapters(by_hand, s >= lowest ? AdapterChoices{{a.get(), 1.0}, {b.get(), 0.5}}
                                        : AdapterChoices{{b.get(), 0.5}});
      return predict_velocity(by_hand, x, time, guidance, tables, run, [] {});
    };
    return denoise(velocity, *config.sampler(), noise.to(compute.device), progress, [] {});
  };
  GenerationConfig config;
  config.negative_prompt = "";
  config.sigmas = {1, 0.75, 0.5, 0.25};
  config.steps = 4;
  std::vector<at::Tensor> seen;
  for (const double lowest : {1.0, 0.75, 0.4, 0.0}) {  // in 1, 2, 3 and 4 steps
    model.set_adapters({{adapter("blocks.0.self_attn.q", lowest), 1.0}, {b, 0.5}});
    for (int again = 0; again < 2; ++again) {
      const at::Tensor found = model.sample({"a red ball"}, noise, config, job);
      EXPECT_TRUE(at::equal(found, expected(config, lowest))) << lowest << ", run " << again;
      seen.push_back(found);
    }
  }
  for (size_t i = 2; i < seen.size(); i += 2) {
    EXPECT_GT(relative_l2(seen[i], seen[i - 2]), 1e-4) << i;
  }
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
