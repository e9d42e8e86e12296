// A worker: makes the videos of a store, one after the other or in batches.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "server/job_store.h"
#include "server/metrics.h"
#include "server/worker/batch_files.h"
#include "server/worker/bell.h"
#include "server/worker/job_reports.h"
#include "server/worker/video_maker.h"

namespace ospnext {

struct WorkerSettings {
  std::string name;             // no other worker of any server has it
  std::string model;            // the name that clients give it
  std::string ending = ".mp4";  // of the video's file
  int64_t batch = 1;            // videos that are made together, at most
  int64_t preview = 0;          // steps between two previews; 0: none
  int64_t max_seconds = 0;      // that a video may take; 0: any number
  bool logs_prompts = false;
};

// Makes videos until it is told to stop. A video that is made alone equals that of `ospnext
// generate --config` with the record beside it, bit for bit, and one of a batch does within
// rounding. A job that fails leaves the worker ready for the next. A batch that fails goes back
// into the queue, and its videos are made one by one.
class VideoWorker {
 public:
  using Log = std::function<void(const std::string& line)>;
  // All references outlive the worker, which belongs to one thread. `maker` is that of the leader.
  VideoWorker(WorkerSettings settings, VideoMaker& maker, JobStore& store, Metrics& metrics,
              Log log);

  // Until `drain`: takes jobs and makes them; `bell` rings when there are new ones. Then it ends
  // with those that it has, or, when `abort` is set, puts them back into the queue, and sends the
  // other ranks home. Throws PeerError when a rank is lost; then the jobs are made again when their
  // lease has run out.
  void run(Bell& bell, const CancellationToken& drain, const CancellationToken& abort);

 private:
  std::vector<Job> claim();
  void make(const std::vector<Job>& jobs, const CancellationToken& abort);
  // Say how a job of a batch ended.
  void complete(const Job& job);
  void cancelled(const Job& job, JobReports::Reason reason, size_t batch);
  void failed(const Job& job, const JobFailure& failure);
  void release(const Job& job, const std::string& why, bool alone);
  // Says it until the database has taken it. Returns whether the job was this worker's.
  bool settle(const std::function<bool()>& say) const;
  void note_end(const Job& job, const std::string& result, const std::string& detail);
  void note_memory();

  WorkerSettings settings_;
  VideoMaker& maker_;
  JobStore& store_;
  Metrics& metrics_;
  Log log_;
  Pace pace_;
};

}  // namespace ospnext
