// The workers of a server, each in a thread of its own.
#pragma once

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "engine/generation_config.h"
#include "engine/work_ranks.h"
#include "packages/model_source.h"
#include "server/job_store.h"
#include "server/metrics.h"
#include "server/model_card.h"
#include "server/worker/bell.h"
#include "server/worker/serve_config.h"
#include "server/worker/server_log.h"
#include "server/worker/video_maker.h"

namespace ospnext {

// How a device of `devices` computes. Throws InputError.
ComputeOptions compute_of(const ServeConfig& config, const std::string& device);
// What all videos on this device have in common. `own`: the model's own values.
GenerateConfig common_config(const ServeConfig& config, const GenerationConfig& own,
                             const ComputeOptions& compute);

class Workers {
 public:
  // What workers need of others, which outlives them.
  struct Surroundings {
    const ModelSource& source;
    const ModelCard& card;
    JobStore& store;
    Metrics& metrics;
    Bell& bell;
    ServerLog& log;
  };
  // Loads the model on every device: a worker for each, or on one the leader of the processes that
  // divide 1, 2, … videos as `by_videos` says. Throws InputError, and as VideoMaker() does.
  Workers(const ServeConfig& config, const GenerationConfig& own,
          const std::vector<ComputeOptions>& devices, const std::vector<WorkRanks>& by_videos,
          const Surroundings& around);
  ~Workers() { stop(std::chrono::seconds(0)); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Throws what has ended a worker, if that has happened.
  void check();
  // Lets the jobs that are being made end, for `patience`; then puts them back.
  void stop(std::chrono::seconds patience);

 private:
  // One worker from its first to its last moment, on its thread.
  struct Shift {
    GenerateConfig base;
    ComputeOptions compute;
    std::vector<WorkRanks> by_videos;
    std::promise<void> is_loaded = {};
  };
  void work(const ServeConfig& config, const Surroundings& around, Shift& shift);

  Bell& bell_;
  CancellationToken drain_, abort_;
  std::vector<std::future<void>> threads_;
};

}  // namespace ospnext
