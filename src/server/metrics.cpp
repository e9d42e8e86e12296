#include "server/metrics.h"

#include <cstdio>
#include <stdexcept>

namespace ospnext {

const std::map<std::string, MetricHelp>& metric_helps() {
  static const std::map<std::string, MetricHelp> helps = {
      {"ospnext_jobs", {"gauge", "Videos in the database, by status."}},
      {"ospnext_queue_bound", {"gauge", "Videos that may be queued at a time."}},
      {"ospnext_video_bytes", {"gauge", "Bytes of the files of completed videos."}},
      {"ospnext_jobs_ended_total", {"counter", "Videos that this server ended, by result."}},
      {"ospnext_job_errors_total", {"counter", "Videos that failed, by code."}},
      {"ospnext_batches_total", {"counter", "Batches of videos that were begun, by size."}},
      {"ospnext_stage_seconds_total", {"counter", "Seconds spent in each stage."}},
      {"ospnext_denoising_steps_total", {"counter", "Denoising steps."}},
      {"ospnext_step_seconds", {"gauge", "Seconds of the newest denoising step, by worker."}},
      {"ospnext_host_memory_peak_bytes", {"gauge", "Most host memory used so far."}},
      {"ospnext_gpu_memory_peak_bytes", {"gauge", "Most memory used on a GPU so far, by worker."}},
      {"ospnext_http_requests_total", {"counter", "Answers, by route and status."}},
      {"ospnext_http_request_seconds_total", {"counter", "Seconds spent on answers, by route."}},
      {"ospnext_draining", {"gauge", "1 once the server was told to stop."}},
  };
  return helps;
}

namespace {

// Throws for a name without help, a programmer's mistake.
void check_known(const std::string& name) {
  if (!metric_helps().contains(name)) {
    throw std::logic_error("metric " + name + " has no help");
  }
}

}  // namespace

void Metrics::add(const std::string& name, const std::string& labels, double value) {
  check_known(name);
  const std::lock_guard lock(mutex_);
  values_[name][labels] += value;
}

void Metrics::set(const std::string& name, const std::string& labels, double value) {
  check_known(name);
  const std::lock_guard lock(mutex_);
  values_[name][labels] = value;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& [name, series] : values_) {
    const MetricHelp& help = metric_helps().at(name);
    text += "# HELP " + name + " " + help.help + "\n# TYPE " + name + " " + help.kind + "\n";
    for (const auto& [labels, value] : series) {
      char number[40];
      std::snprintf(number, sizeof number, "%.17g", value);
      text += name + (labels.empty() ? "" : "{" + labels + "}") + " " + number + "\n";
    }
  }
  return text;
}

}  // namespace ospnext
