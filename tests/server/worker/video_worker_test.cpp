// A worker on a tiny random model: videos as `generate` makes them, and jobs that end in every way.
#include "server/worker/video_worker.h"

#include <gtest/gtest.h>

#include <thread>

#include "core/fields.h"
#include "engine/memory.h"
#include "engine/text_to_video.h"
#include "engine/video_files.h"
#include "io/weights.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

// Videos are written as .y4m, which needs no FFmpeg.
class Worker : public testing::Test {
 protected:
  Worker() {
    write_tiny_diffusers_model(folder_ / "model");
    const TransformerConfig config = tiny_transformer_config();
    torch::manual_seed(1);
    save_safetensors(folder_ / "style.safetensors",
                     {{"diffusion_model.blocks.0.self_attn.q.lora_A.weight",
                       torch::randn({4, config.dim}) * 0.3},
                      {"diffusion_model.blocks.0.self_attn.q.lora_B.weight",
                       torch::randn({config.dim, 4}) * 0.3}});
    card_.id = "tiny";
    card_.loras = {{"style", (folder_ / "style.safetensors").string()},
                   {"broken", (folder_ / "none.safetensors").string()}};
    files_ = find_model_files({.model = folder_ / "model"});
    settings_.name = "w";
    settings_.model = "tiny";
    settings_.ending = ".y4m";
    base_.model.model = (folder_ / "model").string();
    base_.device = "cpu";
    base_.precision = "float32";
    base_.generation =
        defaults_for(files_, read_transformer_config(files_.require(ModelPart::kTransformer)));
  }

  std::string submit(const std::string& prompt,
                     const std::function<void(VideoSettings&)>& change = {}) {
    const GenerationConfig& own = base_.generation;
    VideoSettings video = {.prompt = prompt,
                           .negative_prompt = own.negative_prompt,
                           .width = 48,
                           .height = 32,
                           .num_frames = 5,
                           .fps = 8,
                           .num_inference_steps = 3,
                           .guidance_scale = 3,
                           .flow_shift = 4,
                           .seed = 7};
    if (change) {
      change(video);
    }
    return store_.submit({"", "tiny", video, "", "", ""}).job.id;
  }

  // Runs a worker until `is_over`, and until it has ended with its job.
  void run(const std::function<bool()>& is_over, bool aborts = false) {
    const ModelFileSource source(files_);
    CancellationToken drain, abort;
    Bell bell;
    std::thread thread([&] {
      VideoMaker maker(base_, card_, source, compute_, {WorkRanks()});
      VideoWorker worker(settings_, maker, store_, metrics_,
                         [this](const std::string& line) { log_ += line + "\n"; });
      worker.run(bell, drain, abort);
    });
    for (int i = 0; i < 6000 && !is_over(); ++i) {
      std::this_thread::sleep_for(milliseconds(10));
    }
    if (aborts) {
      abort.cancel();
    }
    drain.cancel();
    thread.join();
  }
  Job job_of(const std::string& id) { return *store_.find(id, ""); }
  void run_until_finished(const std::string& id) {
    run([&] { return job_of(id).is_finished(); });
  }
  // What `generate` writes with the record beside the video of a job.
  std::string generated(const Job& job) {
    GenerateConfig config;
    fields_from_json(config,
                     nlohmann::json::parse(file_text(store_.file_of(job, ".json"))).at("config"),
                     "record");
    config.output = (folder_ / "again.y4m").string();
    Progress progress(nullptr, false);
    const std::vector<VideoSample> samples = config.samples();
    VideoFiles files(config, samples, at::kCPU, progress, nullptr);
    text_to_video(ModelFileSource(config.model.find(config.loras)), {}, config.generation, samples,
                  files, progress, CancellationToken());
    return file_text(config.output);
  }

  TemporaryFolder folder_;
  ModelFiles files_;
  ModelCard card_;
  GenerateConfig base_;
  ComputeOptions compute_;
  WorkerSettings settings_;
  Metrics metrics_;
  std::string log_;
  JobStore store_{folder_ / "data", {.lease_ms = 1000}};
};

TEST_F(Worker, MakesTheVideosThatGenerateMakes) {
  settings_.preview = 1;
  const std::string plain = submit("a red ball");
  const std::string styled = submit("a red ball", [](VideoSettings& video) {
    video.lora = "style";
    video.lora_scale = 0.7;
  });
  const std::string again = submit("a red ball");
  run_until_finished(again);
  std::map<std::string, std::string> videos;
  for (const std::string& id : {plain, styled, again}) {
    const Job job = job_of(id);
    ASSERT_EQ(job.status, JobStatus::kCompleted) << job.error_message;
    EXPECT_EQ(job.progress, 100);
    videos[id] = file_text(store_.file_of(job, ".y4m"));
    EXPECT_EQ(videos[id], generated(job));
    for (const char* const picture : {"-thumbnail.png", "-spritesheet.png", "-preview.png"}) {
      EXPECT_TRUE(file_text(store_.file_of(job, picture)).starts_with("\x89PNG")) << picture;
    }
  }
  EXPECT_EQ(videos[plain], videos[again]);
  EXPECT_NE(videos[plain], videos[styled]);
  EXPECT_NE(metrics_.text().find("ospnext_jobs_ended_total{result=\"completed\"} 3"),
            std::string::npos);
  EXPECT_NE(metrics_.text().find("ospnext_denoising_steps_total 9"), std::string::npos);
  EXPECT_EQ(log_.find("red ball"), std::string::npos);
}

TEST_F(Worker, AFailedJobLeavesItReady) {
  const std::string broken = submit("a", [](VideoSettings& video) { video.lora = "broken"; });
  const std::string impossible = submit("a", [](VideoSettings& video) { video.width = 50; });
  const std::string good = submit("a");
  run_until_finished(good);
  EXPECT_EQ(job_of(broken).status, JobStatus::kFailed);
  EXPECT_EQ(job_of(broken).error_code, "generation_failed");
  EXPECT_EQ(job_of(impossible).status, JobStatus::kFailed);
  EXPECT_NE(job_of(impossible).error_message.find("found 50"), std::string::npos);
  EXPECT_FALSE(fs::exists(store_.folder_of(impossible)));
  EXPECT_EQ(job_of(good).status, JobStatus::kCompleted);
}

TEST_F(Worker, ACancelledJobEndsAtItsNextStep) {
  const std::string longest =
      submit("long", [](VideoSettings& video) { video.num_inference_steps = 10'000; });
  const std::string next = submit("next");
  bool is_cancelled = false;
  run([&] {
    if (!is_cancelled && job_of(longest).progress > 0) {
      is_cancelled = store_.cancel(longest, "");
    }
    return job_of(next).is_finished();
  });
  EXPECT_TRUE(is_cancelled);
  EXPECT_EQ(job_of(longest).status, JobStatus::kCancelled);
  EXPECT_FALSE(fs::exists(store_.folder_of(longest)));
  EXPECT_EQ(job_of(next).status, JobStatus::kCompleted);
}

TEST_F(Worker, AJobThatTakesTooLongFails) {
  settings_.max_seconds = 1;
  const std::string id =
      submit("long", [](VideoSettings& video) { video.num_inference_steps = 10'000; });
  run_until_finished(id);
  EXPECT_EQ(job_of(id).error_code, "time_limit");
  EXPECT_EQ(job_of(id).error_message, "it took longer than 1 seconds");
}

TEST_F(Worker, ABatchThatTakesTooLongFailsWithTheTimeOfAll) {
  settings_.max_seconds = 1;
  settings_.batch = 2;
  const auto longest = [](VideoSettings& video) { video.num_inference_steps = 10'000; };
  const std::vector<std::string> ids = {submit("one", longest), submit("another", longest)};
  run([&] { return job_of(ids[0]).is_finished() && job_of(ids[1]).is_finished(); });
  for (const std::string& id : ids) {
    EXPECT_EQ(job_of(id).error_code, "time_limit");
    EXPECT_EQ(job_of(id).error_message,
              "it and the other videos of its batch of 2 took longer than 2 seconds");
  }
}

TEST_F(Worker, AnAbortedJobGoesBackIntoTheQueue) {
  const std::string id =
      submit("long", [](VideoSettings& video) { video.num_inference_steps = 10'000; });
  run([&] { return job_of(id).status == JobStatus::kInProgress; }, /*aborts=*/true);
  EXPECT_EQ(job_of(id).status, JobStatus::kQueued);
  EXPECT_FALSE(fs::exists(store_.folder_of(id)));
}

// The largest difference between two samples of the pixels of two .y4m files, whose headers are
// equal but for the configuration in a comment.
int largest_difference(const std::string& a, const std::string& b) {
  const std::string first_a = a.substr(a.find("\nFRAME")), first_b = b.substr(b.find("\nFRAME"));
  EXPECT_EQ(first_a.size(), first_b.size());
  int largest = 0;
  for (size_t i = 0; i < std::min(first_a.size(), first_b.size()); ++i) {
    const int difference =
        static_cast<unsigned char>(first_a[i]) - static_cast<unsigned char>(first_b[i]);
    largest = std::max(largest, std::abs(difference));
  }
  return largest;
}

TEST_F(Worker, VideosOfABatchEqualThoseOfGenerateWithinRounding) {
  settings_.batch = 4;
  const std::string one = submit("a red ball");
  const std::string longer = submit("a", [](VideoSettings& video) { video.num_frames = 9; });
  const std::string other = submit("a large blue cube that spins", [](VideoSettings& video) {
    video.seed = 8;
    video.fps = 24;
  });
  run([&] { return job_of(longer).is_finished(); });
  for (const std::string& id : {one, other, longer}) {
    const Job job = job_of(id);
    ASSERT_EQ(job.status, JobStatus::kCompleted) << job.error_message;
    EXPECT_EQ(job.batch_size, id == longer ? 1 : 2);
    const std::string video = file_text(store_.file_of(job, ".y4m"));
    // A sample whose float32 value lies between two levels may be rounded to either.
    EXPECT_LE(largest_difference(video, generated(job)), id == longer ? 0 : 1) << id;
    const auto run = nlohmann::json::parse(file_text(store_.file_of(job, ".json"))).at("run");
    EXPECT_EQ(run.value("batch_size", 1), job.batch_size);
  }
  EXPECT_GT(largest_difference(file_text(store_.file_of(job_of(one), ".y4m")),
                               file_text(store_.file_of(job_of(other), ".y4m"))),
            1);
  EXPECT_NE(metrics_.text().find("ospnext_batches_total{size=\"2\"} 1"), std::string::npos);
}

TEST_F(Worker, AJobOfABatchThatIsCancelledOrCannotBeWrittenDoesNotEndTheOthers) {
  settings_.batch = 4;
  const auto steps = [](VideoSettings& video) { video.num_inference_steps = 60; };
  const std::string cancelled = submit("a", steps), stuck = submit("b", steps);
  const std::string good = submit("c", steps);
  write_file(store_.folder_of(stuck), "a file where its folder should be");
  bool is_cancelled = false;
  run([&] {
    if (!is_cancelled && job_of(cancelled).progress > 0) {
      is_cancelled = store_.cancel(cancelled, "");
    }
    return job_of(good).is_finished() && job_of(stuck).is_finished();
  });
  EXPECT_TRUE(is_cancelled);
  EXPECT_EQ(job_of(good).status, JobStatus::kCompleted) << job_of(good).error_message;
  EXPECT_EQ(job_of(good).batch_size, 3);
  EXPECT_EQ(job_of(stuck).error_code, "generation_failed");
  EXPECT_EQ(job_of(cancelled).status, JobStatus::kCancelled);
  EXPECT_FALSE(fs::exists(store_.folder_of(cancelled)));
}

TEST_F(Worker, ABatchThatFailsIsTakenApart) {
  settings_.batch = 2;
  const auto broken = [](VideoSettings& video) { video.lora = "broken"; };
  const std::string one = submit("a", broken), other = submit("b", broken), good = submit("c");
  run_until_finished(good);
  for (const std::string& id : {one, other}) {
    EXPECT_EQ(job_of(id).error_code, "generation_failed");
    EXPECT_EQ(job_of(id).batch_size, 1);
    EXPECT_EQ(job_of(id).attempt, 2);
  }
  EXPECT_EQ(job_of(good).status, JobStatus::kCompleted);
}

TEST_F(Worker, AJobThatRunsOutOfAGpusMemoryLeavesItReady) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "needs a CUDA GPU";
  }
  compute_ = {.device = at::Device(at::kCUDA, 0), .dtype = at::kBFloat16};
  base_.device = "cuda:0";
  base_.precision = "bf16";
  const std::string first = submit("a red ball");
  std::string large, again;
  at::Tensor others;  // that take nearly all of the memory while the large video is made
  run([&] {
    if (large.empty() && job_of(first).is_finished()) {
      constexpr int64_t kLeft = int64_t{64} << 20;
      others =
          at::empty({free_memory(compute_.device) - kLeft}, at::device(at::kCUDA).dtype(at::kByte));
      large = submit("a", [](VideoSettings& video) {
        video.width = 1280;
        video.height = 704;
        video.num_frames = 33;
      });
    }
    if (!large.empty() && again.empty() && job_of(large).is_finished()) {
      others.reset();
      release_cached_memory(compute_.device);
      again = submit("a red ball");
    }
    return !again.empty() && job_of(again).is_finished();
  });
  EXPECT_EQ(job_of(large).error_code, "out_of_memory") << job_of(large).error_message;
  ASSERT_EQ(job_of(again).status, JobStatus::kCompleted) << job_of(again).error_message;
  EXPECT_EQ(file_text(store_.file_of(job_of(again), ".y4m")),
            file_text(store_.file_of(job_of(first), ".y4m")));
}

TEST_F(Worker, WhatADeadServerBeganIsMadeAgainAlike) {
  const std::string id = submit("a red ball");
  ASSERT_EQ(store_.claim("tiny", "dead").front().id, id);
  fs::create_directories(store_.folder_of(id));
  write_file(store_.folder_of(id) / ".1.y4m.part", "half");  // as a killed program leaves it
  run_until_finished(id);
  const Job job = job_of(id);
  EXPECT_EQ(job.status, JobStatus::kCompleted);
  EXPECT_EQ(job.attempt, 2);
  EXPECT_EQ(file_text(store_.file_of(job, ".y4m")), generated(job));
}

}  // namespace
}  // namespace ospnext
