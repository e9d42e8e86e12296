#include "server/worker/video_worker.h"

#include <c10/util/Exception.h>

#include <new>
#include <thread>

#include "core/error.h"
#include "engine/memory.h"
#include "engine/text_to_video.h"
#include "engine/video_files.h"
#include "server/worker/job_files.h"
#include "server/worker/job_reports.h"

namespace ospnext {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kJobPause(300);  // until jobs of other servers are noticed
constexpr size_t kMostAdapters = 4;     // that are kept in host memory

// `text` without the places of the server's files.
std::string without_paths(std::string text, const std::string& folder) {
  for (size_t place = text.find(folder); place != text.npos; place = text.find(folder)) {
    text.erase(place, folder.size());
  }
  return text;
}

}  // namespace

VideoWorker::VideoWorker(WorkerSettings settings, const ModelCard& card, const ModelSource& source,
                         const ComputeOptions& compute, JobStore& store, Metrics& metrics, Log log)
    : settings_(std::move(settings)),
      card_(card),
      store_(store),
      metrics_(metrics),
      log_(std::move(log)),
      model_(source, compute) {
  model_.load_transformer();
}

void VideoWorker::run(Bell& bell, const CancellationToken& drain, const CancellationToken& abort) {
  while (!drain.cancelled()) {
    std::optional<Job> job;
    try {
      job = store_.claim(card_.id, settings_.name);
    } catch (const DatabaseError& error) {
      log_("database: " + std::string(error.what()));
    }
    if (job) {
      make(*job, abort);
    } else {
      bell.wait(kJobPause);
    }
  }
}

// What `generate` would be told to make this video.
GenerateConfig VideoWorker::config_of(const Job& job) const {
  const VideoSettings& settings = job.settings;
  GenerateConfig config = settings_.base;
  config.prompt = settings.prompt;
  config.seed = static_cast<uint64_t>(settings.seed);
  config.output = store_.file_of(job, settings_.ending).string();
  GenerationConfig& generation = config.generation;
  generation.negative_prompt = settings.negative_prompt;
  generation.width = settings.width;
  generation.height = settings.height;
  generation.num_frames = settings.num_frames;
  generation.fps = settings.fps;
  if (settings.num_inference_steps != generation.steps) {
    generation.sigmas.clear();  // levels of the model's own that are for its own number of steps
  }
  generation.steps = settings.num_inference_steps;
  generation.guidance_scale = settings.guidance_scale;
  generation.shift = settings.flow_shift;
  if (!settings.lora.empty()) {
    config.loras.lora = {card_.loras.at(settings.lora) + ":" + json(settings.lora_scale).dump()};
    config.loras.lora_mode = "live";
  }
  const auto tiling = vae_tiling_of(model_.source(), model_.compute(), generation, 1);
  generation.vae_tile = tiling ? tiling->text() : "none";  // for the record beside the video
  return config;
}

void VideoWorker::set_adapter(const Job& job) {
  const std::string& name = job.settings.lora;
  if (name.empty()) {
    model_.set_adapters({});
    return;
  }
  if (!adapters_.contains(name)) {
    if (adapters_.size() >= kMostAdapters) {
      adapters_.clear();
    }
    adapters_[name] = model_.read_adapter(card_.loras.at(name));
  }
  model_.set_adapters({{adapters_.at(name), job.settings.lora_scale}});
}

void VideoWorker::make_files(const Job& job, const GenerateConfig& config, Progress& progress,
                             const CancellationToken& cancel, JobReports& reports) {
  std::filesystem::create_directories(store_.folder_of(job.id));
  const std::vector<VideoSample> samples = config.samples();
  JobFiles files(store_, job, config, samples, model_.compute().device, progress, settings_.preview,
                 {.on_frames = [&](int64_t frames) { reports.decoded(frames); },
                  .on_preview = [&](int64_t step) { reports.previewed(step); }});
  set_adapter(job);
  make_videos(model_, config.generation, samples, files, {progress, cancel});
}

bool VideoWorker::settle(const std::function<bool()>& say) const {
  constexpr int kTries = 30;
  for (int i = 0; i < kTries; ++i) {
    try {
      return say();
    } catch (const DatabaseError& error) {
      log_("database: " + std::string(error.what()));
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
  }
  return false;  // the lease runs out, and the job is made again
}

void VideoWorker::note_end(const Job& job, const std::string& result, const std::string& detail) {
  metrics_.add("ospnext_jobs_ended_total", "result=\"" + result + "\"");
  const PeakMemory peak = peak_memory(model_.compute().device);
  metrics_.set("ospnext_host_memory_peak_bytes", "", static_cast<double>(peak.host_bytes));
  if (model_.compute().device.is_cuda()) {
    metrics_.set("ospnext_gpu_memory_peak_bytes", "worker=\"" + settings_.name + "\"",
                 static_cast<double>(peak.cuda_bytes));
  }
  log_(job.id + " " + result + (detail.empty() ? "" : ": " + detail));
}

void VideoWorker::make(const Job& job, const CancellationToken& abort) {
  log_(job.id + " begins" +
       (settings_.logs_prompts ? ": " + json(job.settings.prompt).dump() : ""));
  JobReports reports(store_, metrics_, job, settings_.name, settings_.max_seconds, abort, pace_);
  Progress progress(nullptr, false, &reports);
  const auto fail = [&](const std::string& code, const std::string& message) {
    remove_files(store_, job);
    metrics_.add("ospnext_job_errors_total", "code=\"" + code + "\"");
    settle([&] { return store_.fail(job.id, settings_.name, code, message); });
    note_end(job, "failed", message);
  };
  const std::string memory = "there was not enough memory; ask for a smaller or shorter video";
  try {
    make_files(job, config_of(job), progress, reports.cancel(), reports);
    progress.end();
    const int64_t bytes = bytes_of_files(store_, job);
    if (settle([&] { return store_.complete(job.id, settings_.name, bytes); })) {
      note_end(job, "completed", "");
    } else {
      remove_files(store_, job);
      note_end(job, "dropped", "it was cancelled, or is another worker's");
    }
  } catch (const Cancelled&) {
    if (reports.reason() == JobReports::Reason::kTooLong) {
      fail("time_limit",
           "it took longer than " + std::to_string(settings_.max_seconds) + " seconds");
      return;
    }
    remove_files(store_, job);
    if (reports.reason() == JobReports::Reason::kAborted) {
      settle([&] { return store_.release(job.id, settings_.name); });
      note_end(job, "released", "");
    } else {
      note_end(job, "cancelled", "");
    }
  } catch (const c10::OutOfMemoryError&) {
    reset_peak_memory(model_.compute().device);
    fail("out_of_memory", memory);
  } catch (const std::bad_alloc&) {
    fail("out_of_memory", memory);
  } catch (const c10::Error& error) {
    log_(job.id + ": " + error.what_without_backtrace());
    fail("internal_error", "the server failed; its log says why");
  } catch (const std::exception& error) {
    fail("generation_failed", without_paths(error.what(), store_.folder_of(job.id).string() + "/"));
  }
}

}  // namespace ospnext
