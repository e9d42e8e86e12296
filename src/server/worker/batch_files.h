// The files of the videos that are made together.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/text_to_video.h"
#include "server/worker/job_failure.h"
#include "server/worker/job_files.h"

namespace ospnext {

// Where the files of jobs go, and who is told of them.
struct BatchOutput {
  const JobStore& store;
  std::string ending;  // of a video: ".mp4"
  at::Device device;   // that computes
  int64_t preview;     // steps between two previews, 0: none
};

// Gives each sample to the files of its job. Where those of one job cannot be written, it keeps the
// reason, and the others go on: neither another job nor another rank ends with it.
class BatchFiles final : public VideoReceiver {
 public:
  // Called with the job's number.
  struct Watcher {
    std::function<void(size_t job, int64_t frames)> on_frames;  // of it that are decoded
    std::function<void(size_t job, int64_t step)> on_preview;
    std::function<void()> on_nothing_left;  // to write: all have failed
  };
  // `jobs` and `progress` outlive this object.
  BatchFiles(const std::vector<Job>& jobs, BatchOutput output, const Progress& progress,
             Watcher watcher);

  // Opens the files of each job, whose configuration gets its output.
  void open(const std::vector<GenerateConfig>& configs);
  // Nothing comes any more: leaves the files that are finished, and no others.
  void close();
  // Why the files of a job could not be written, if so.
  const std::optional<JobFailure>& failure(size_t job) const { return parts_[job].failure; }

  bool wants_preview(size_t sample, int64_t done) override;
  void preview(size_t sample, int64_t done, const at::Tensor& frame) override;
  void latent(size_t, const at::Tensor&) override {}
  void frames(size_t sample, const at::Tensor& frames) override;
  void finished(size_t sample) override;

 private:
  struct Part {
    GenerateConfig config = {};
    std::vector<VideoSample> samples = {};  // one
    std::optional<JobFiles> files = {};     // nothing: not open, or failed
    std::optional<JobFailure> failure = {};
  };
  void guarded(size_t job, const std::function<void(Part& part)>& write);

  const std::vector<Job>& jobs_;
  BatchOutput output_;
  const Progress& progress_;
  Watcher watcher_;
  std::deque<Part> parts_;  // by job; their places in memory stay
};

}  // namespace ospnext
