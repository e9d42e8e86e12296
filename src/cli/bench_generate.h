// What a whole generation costs, stage by stage.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/flags_from_fields.h"
#include "cli/profile.h"
#include "core/cancel.h"
#include "parallel/journal.h"
#include "pipeline/generation_config.h"
#include "pipeline/model_source.h"
#include "pipeline/work_ranks.h"

namespace ospnext {

// As one process sees it.
struct GenerationCost {
  struct Stage {
    std::string name;
    double seconds;
    int64_t peak_bytes;  // of the GPU within the stage; without one, of the process until its end
  };
  std::vector<Stage> stages;
  std::vector<double> step_seconds;             // of denoising
  std::map<std::string, Traffic> traffic = {};  // by purpose, of the steps that settled_steps() has
  // Share of the leader's denoising in which the GPU ran nothing, and of what comes after its first step; nothing on
  // the CPU.
  std::optional<double> idle = {}, idle_after_first = {};

  // Seconds of the steps after the first, which starts groups and kernels; of that where it is the only one.
  std::vector<double> settled_steps() const;
  int64_t peak_bytes() const;  // of all stages
};

// Runs text_to_video() once, for a prompt and a negative prompt that fill all rows of text. Frames are made into
// pixels in host memory, as for a file, and dropped. Called by all processes. With a `profile`, which records it, the GPU's
// idling stays unknown. Throws as text_to_video() does.
GenerationCost measure_generation(const ModelSource& source, const ComputeOptions& compute,
                                  GenerationConfig config, const CancellationToken& cancel,
                                  const WorkRanks& ranks = {}, Profile* profile = nullptr);

// A table of it. `passes`: of the transformer in a step, as this process makes them.
std::string cost_table(const GenerationCost& cost, int64_t passes);
// Of what it exchanged with other processes in a step.
std::string exchange_table(const GenerationCost& cost);

// What one of several processes took: in all, and in a step.
struct RankCost {
  int64_t peak_bytes = 0;
  double sent_bytes = 0;        // a step, to others
  double exchange_seconds = 0;  // a step, waiting for others included
};
// Of all ranks; called by them all, with what each found.
std::vector<RankCost> costs_of_ranks(const GenerationCost& cost, const ProcessGroup& all,
                                     at::Device device);
std::string rank_table(const std::vector<RankCost>& costs);

// `ospnext bench generate`.
void run_bench_generate(const Arguments& arguments, const CancellationToken& cancel);

}  // namespace ospnext
