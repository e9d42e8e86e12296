#include "server/worker/video_worker.h"

#include <thread>

#include "core/error.h"
#include "engine/memory.h"

namespace ospnext {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kJobPause(300);  // until jobs of other servers are noticed

// `text` without the places of the server's files.
std::string without_paths(std::string text, const std::string& folder) {
  for (size_t place = text.find(folder); place != text.npos; place = text.find(folder)) {
    text.erase(place, folder.size());
  }
  return text;
}

}  // namespace

VideoWorker::VideoWorker(WorkerSettings settings, VideoMaker& maker, JobStore& store,
                         Metrics& metrics, Log log)
    : settings_(std::move(settings)),
      maker_(maker),
      store_(store),
      metrics_(metrics),
      log_(std::move(log)) {}

void VideoWorker::run(Bell& bell, const CancellationToken& drain, const CancellationToken& abort) {
  while (!drain.cancelled()) {
    maker_.check_ranks();
    const std::vector<Job> jobs = claim();
    if (jobs.empty()) {
      bell.wait(kJobPause);
    } else {
      make(jobs, abort);
    }
  }
  maker_.send({});
}

std::vector<Job> VideoWorker::claim() {
  try {
    return store_.claim(settings_.model, settings_.name, settings_.batch);
  } catch (const DatabaseError& error) {
    log_("database: " + std::string(error.what()));
    return {};
  }
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
  log_(job.id + " " + result + (detail.empty() ? "" : ": " + detail));
}

void VideoWorker::note_memory() {
  const at::Device device = maker_.model().compute().device;
  const PeakMemory peak = peak_memory(device);
  metrics_.set("ospnext_host_memory_peak_bytes", "", static_cast<double>(peak.host_bytes));
  if (device.is_cuda()) {
    metrics_.set("ospnext_gpu_memory_peak_bytes", "worker=\"" + settings_.name + "\"",
                 static_cast<double>(peak.cuda_bytes));
  }
}

void VideoWorker::complete(const Job& job) {
  const int64_t bytes = bytes_of_files(store_, job);
  if (settle([&] { return store_.complete(job.id, settings_.name, bytes); })) {
    note_end(job, "completed", "");
  } else {
    remove_files(store_, job);
    note_end(job, "dropped", "it was cancelled, or is another worker's");
  }
}

void VideoWorker::failed(const Job& job, const JobFailure& failure) {
  remove_files(store_, job);
  metrics_.add("ospnext_job_errors_total", "code=\"" + failure.code() + "\"");
  const std::string message =
      without_paths(failure.message(), store_.folder_of(job.id).string() + "/");
  settle([&] { return store_.fail(job.id, settings_.name, failure.code(), message); });
  note_end(job, "failed", message + (failure.detail().empty() ? "" : ": " + failure.detail()));
}

void VideoWorker::release(const Job& job, const std::string& why, bool alone) {
  remove_files(store_, job);
  settle([&] { return store_.release(job.id, settings_.name, alone); });
  note_end(job, "released", why);
}

void VideoWorker::cancelled(const Job& job, JobReports::Reason reason, size_t batch) {
  if (reason == JobReports::Reason::kTooLong) {
    const std::string seconds =
        std::to_string(settings_.max_seconds * static_cast<int64_t>(batch)) + " seconds";
    failed(job,
           {"time_limit", batch == 1 ? "it took longer than " + seconds
                                     : "it and the other videos of its batch of " +
                                           std::to_string(batch) + " took longer than " + seconds});
  } else if (reason == JobReports::Reason::kAborted) {
    release(job, "", /*alone=*/false);
  } else {
    remove_files(store_, job);
    note_end(job, "cancelled", "");
  }
}

void VideoWorker::make(const std::vector<Job>& jobs, const CancellationToken& abort) {
  std::vector<VideoSettings> videos;
  for (const Job& job : jobs) {
    videos.push_back(job.settings);
    log_(job.id + " begins" +
         (settings_.logs_prompts ? ": " + json(job.settings.prompt).dump() : ""));
  }
  metrics_.add("ospnext_batches_total", "size=\"" + std::to_string(jobs.size()) + "\"");
  maker_.send(videos);
  JobReports reports(store_, metrics_, jobs, settings_.name, settings_.max_seconds, abort, pace_);
  Progress progress(nullptr, false, &reports);
  const at::Device device = maker_.model().compute().device;
  BatchFiles files(jobs, {store_, settings_.ending, device, settings_.preview}, progress,
                   {.on_frames = [&](size_t job, int64_t frames) { reports.decoded(job, frames); },
                    .on_preview = [&](size_t job, int64_t step) { reports.previewed(job, step); },
                    .on_nothing_left = [&] { reports.end_without_files(); }});
  bool is_cancelled = false;
  std::optional<JobFailure> failure;
  try {
    const auto opened = [&](const std::vector<GenerateConfig>& configs) -> VideoReceiver& {
      files.open(configs);
      return files;
    };
    maker_.make(videos, opened, {progress, reports.cancel()});
    progress.end();
  } catch (const Cancelled&) {
    is_cancelled = true;
  } catch (const JobFailure& error) {
    failure.emplace(error);
  }
  files.close();
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (files.failure(i)) {
      failed(jobs[i], *files.failure(i));
    } else if (is_cancelled) {
      cancelled(jobs[i], reports.reason(), jobs.size());
    } else if (!failure) {
      complete(jobs[i]);
    } else if (jobs.size() > 1) {
      release(jobs[i], "to be made alone: " + failure->message(), /*alone=*/true);
    } else {
      failed(jobs[i], *failure);
    }
  }
  note_memory();
}

}  // namespace ospnext
