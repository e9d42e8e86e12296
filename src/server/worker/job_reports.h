// What a worker tells the store while it makes videos: that it lives, and how far it is.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "server/job_store.h"
#include "server/metrics.h"

namespace ospnext {

// Seconds that a worker takes, from its newest video: what tells how far a video is.
struct Pace {
  double denoise = 0;  // for one of VideoSettings::work(); 0: not known
  double decode = 0;   // for one pixel of a frame

  // The share of denoising in the time of such a video.
  double denoise_share(const VideoSettings& settings) const;
};

// Renews the leases of the jobs of a batch in a thread of its own as long as it lives, and ends the
// work when there is a reason. A job that is not the worker's any more does not end that of others.
class JobReports final : public StageWatcher {
 public:
  enum class Reason { kNone, kNotOurs, kTooLong, kAborted, kNoFiles };

  // `jobs`, at least one, differ in no more than those of a batch may. `abort`: of the worker.
  // `max_seconds`: that each of the jobs may take; 0: any number. `pace` is read and then kept up
  // to date. All references outlive this object.
  JobReports(JobStore& store, Metrics& metrics, const std::vector<Job>& jobs,
             const std::string& worker, int64_t max_seconds, const CancellationToken& abort,
             Pace& pace);
  ~JobReports() override;

  // Set when the work has to end.
  const CancellationToken& cancel() const { return cancel_; }
  Reason reason() const { return reason_; }
  // No file of any job can be written.
  void end_without_files() { end_for(Reason::kNoFiles); }

  void stepped(const Stage& stage) override;
  void ended(const Stage& stage, double seconds) override;
  // `frames` of the job with this number are decoded, and all of those before it.
  void decoded(size_t job, int64_t frames);
  void previewed(size_t job, int64_t step) { preview_steps_[job] = step; }

 private:
  void watch();
  bool renew();
  void end_for(Reason reason);
  void report(double done);
  double work() const;  // of all jobs
  const VideoSettings& shape() const { return jobs_.front().settings; }

  JobStore& store_;
  Metrics& metrics_;
  const std::vector<Job>& jobs_;
  const std::string& worker_;
  int64_t max_seconds_;
  const CancellationToken& abort_;
  Pace& pace_;
  double denoise_share_;
  CancellationToken cancel_;
  std::atomic<Reason> reason_{Reason::kNone};
  int64_t steps_ = 0;
  std::vector<int64_t> preview_steps_;  // by job
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point stepped_ = began_;
  std::chrono::steady_clock::time_point reported_{};
  std::mutex mutex_;
  std::condition_variable over_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace ospnext
