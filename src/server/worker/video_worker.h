// A worker: an open model that makes the videos of a store, one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/cancel.h"
#include "engine/generate_config.h"
#include "engine/video_model.h"
#include "server/job_store.h"
#include "server/metrics.h"
#include "server/model_card.h"
#include "server/worker/bell.h"
#include "server/worker/job_reports.h"

namespace ospnext {

struct WorkerSettings {
  std::string name;             // no other worker of any server has it
  GenerateConfig base;          // what all videos have in common: the model and how it computes
  std::string ending = ".mp4";  // of the video's file
  int64_t preview = 0;          // steps between two previews; 0: none
  int64_t max_seconds = 0;      // that a video may take; 0: any number
  bool logs_prompts = false;
};

// Makes videos until it is told to stop. A video equals that of `ospnext generate --config` with
// the record beside it, bit for bit. A job that fails leaves the worker ready for the next.
class VideoWorker {
 public:
  using Log = std::function<void(const std::string& line)>;
  // All references outlive the worker, which belongs to one thread. Loads the transformer. Throws
  // as VideoModel does.
  VideoWorker(WorkerSettings settings, const ModelCard& card, const ModelSource& source,
              const ComputeOptions& compute, JobStore& store, Metrics& metrics, Log log);

  // Until `drain`: takes one job after the other; `bell` rings when there are new ones. Then it
  // ends with the job that it has, or, when `abort` is set, puts that back into the queue.
  void run(Bell& bell, const CancellationToken& drain, const CancellationToken& abort);

 private:
  GenerateConfig config_of(const Job& job) const;
  void set_adapter(const Job& job);
  void make(const Job& job, const CancellationToken& abort);
  // Makes the files of a job. Throws what make_videos() throws.
  void make_files(const Job& job, const GenerateConfig& config, Progress& progress,
                  const CancellationToken& cancel, JobReports& reports);
  // Says how a job ended, until the database has taken it. Returns whether it was this worker's.
  bool settle(const std::function<bool()>& say) const;
  void note_end(const Job& job, const std::string& result, const std::string& detail);

  WorkerSettings settings_;
  const ModelCard& card_;
  JobStore& store_;
  Metrics& metrics_;
  Log log_;
  Pace pace_;
  VideoModel model_;
  std::map<std::string, std::shared_ptr<const Adapter>> adapters_;  // by name; few
};

}  // namespace ospnext
