// A worker on a tiny random model: videos as `generate` makes them, and jobs that end in every way.
#include "server/worker/video_worker.h"

#include <gtest/gtest.h>

#include <thread>

#include "core/fields.h"
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
    settings_.ending = ".y4m";
    settings_.base.model.model = (folder_ / "model").string();
    settings_.base.device = "cpu";
    settings_.base.precision = "float32";
    settings_.base.generation =
        defaults_for(files_, read_transformer_config(files_.require(ModelPart::kTransformer)));
  }

  std::string submit(const std::string& prompt,
                     const std::function<void(VideoSettings&)>& change = {}) {
    const GenerationConfig& own = settings_.base.generation;
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
      VideoWorker worker(settings_, card_, source, {}, store_, metrics_,
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
}

TEST_F(Worker, AnAbortedJobGoesBackIntoTheQueue) {
  const std::string id =
      submit("long", [](VideoSettings& video) { video.num_inference_steps = 10'000; });
  run([&] { return job_of(id).status == JobStatus::kInProgress; }, /*aborts=*/true);
  EXPECT_EQ(job_of(id).status, JobStatus::kQueued);
  EXPECT_FALSE(fs::exists(store_.folder_of(id)));
}

TEST_F(Worker, WhatADeadServerBeganIsMadeAgainAlike) {
  const std::string id = submit("a red ball");
  ASSERT_EQ(store_.claim("tiny", "dead")->id, id);
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
