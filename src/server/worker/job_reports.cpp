#include "server/worker/job_reports.h"

#include <algorithm>

namespace ospnext {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPulse(200);  // between two renewals, and until a cancelled job is noticed
constexpr milliseconds kReportPause(200);  // between two reports of progress

double pixels_of(const VideoSettings& settings) {
  return static_cast<double>(settings.width * settings.height) *
         static_cast<double>(settings.num_frames);
}

}  // namespace

double Pace::denoise_share(const VideoSettings& settings) const {
  constexpr double kUsual = 0.9;
  const double denoising = denoise * settings.work(), decoding = decode * pixels_of(settings);
  return denoising > 0 && decoding > 0 ? denoising / (denoising + decoding) : kUsual;
}

JobReports::JobReports(JobStore& store, Metrics& metrics, const std::vector<Job>& jobs,
                       const std::string& worker, int64_t max_seconds,
                       const CancellationToken& abort, Pace& pace)
    : store_(store),
      metrics_(metrics),
      jobs_(jobs),
      worker_(worker),
      max_seconds_(max_seconds * std::ssize(jobs)),
      abort_(abort),
      pace_(pace),
      denoise_share_(pace.denoise_share(jobs.front().settings)),
      preview_steps_(jobs.size()),
      thread_([this] { watch(); }) {}

JobReports::~JobReports() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  over_.notify_all();
  thread_.join();
}

void JobReports::end_for(Reason reason) {
  Reason none = Reason::kNone;
  reason_.compare_exchange_strong(none, reason);  // the first one counts
  cancel_.cancel();
}

// Whether any job is still this worker's.
bool JobReports::renew() {
  bool any = false;
  for (const Job& job : jobs_) {
    any = store_.renew(job.id, worker_) || any;
  }
  return any;
}

void JobReports::watch() {
  std::unique_lock lock(mutex_);
  Clock::time_point renewed = Clock::now();
  while (!is_over_) {  // a job that was ended keeps its lease until all ranks have ended with it
    lock.unlock();
    const auto now = Clock::now();
    try {
      if (!renew()) {
        end_for(Reason::kNotOurs);
      }
      renewed = now;
    } catch (const DatabaseError&) {
      if (now - renewed > milliseconds(store_.limits().lease_ms)) {
        end_for(Reason::kNotOurs);  // another worker may have them by now
      }
    }
    if (max_seconds_ > 0 && now - began_ > std::chrono::seconds(max_seconds_)) {
      end_for(Reason::kTooLong);
    } else if (abort_.cancelled()) {
      end_for(Reason::kAborted);
    }
    lock.lock();
    over_.wait_for(lock, kPulse, [this] { return is_over_; });
  }
}

void JobReports::report(double done) {
  const auto time = Clock::now();
  if (time - reported_ < kReportPause) {
    return;
  }
  reported_ = time;
  try {
    for (size_t i = 0; i < jobs_.size(); ++i) {
      // 100 is for a video that is there.
      store_.report(jobs_[i].id, worker_, std::min<int64_t>(static_cast<int64_t>(done * 100), 99),
                    preview_steps_[i]);
    }
  } catch (const DatabaseError&) {
    // the next report says it
  }
}

void JobReports::stepped(const Stage& stage) {
  if (stage.kind != Stage::Kind::kDenoise) {
    return;
  }
  const auto now = Clock::now();
  metrics_.add("ospnext_denoising_steps_total", "", static_cast<double>(jobs_.size()));
  metrics_.set("ospnext_step_seconds", "worker=\"" + worker_ + "\"",
               std::chrono::duration<double>(now - stepped_).count());
  stepped_ = now;
  ++steps_;
  report(denoise_share_ * static_cast<double>(steps_) /
         static_cast<double>(shape().num_inference_steps));
}

double JobReports::work() const {
  return shape().work() * static_cast<double>(jobs_.size());
}

void JobReports::ended(const Stage& stage, double seconds) {
  metrics_.add("ospnext_stage_seconds_total", "stage=\"" + stage.name + "\"", seconds);
  stepped_ = Clock::now();
  if (stage.kind == Stage::Kind::kDenoise) {
    pace_.denoise = seconds / work();
  } else if (stage.name.starts_with("decode")) {
    pace_.decode = seconds / pixels_of(shape());
  }
}

void JobReports::decoded(size_t job, int64_t frames) {
  const int64_t each = shape().num_frames, all = each * std::ssize(jobs_);
  const int64_t done = each * static_cast<int64_t>(job) + frames;
  report(denoise_share_ +
         (1 - denoise_share_) * static_cast<double>(done) / static_cast<double>(all));
}

}  // namespace ospnext
