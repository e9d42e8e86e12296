// What a whole generation costs, stage by stage.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/flags_from_fields.h"
#include "core/cancel.h"
#include "pipeline/generation_config.h"
#include "pipeline/model_source.h"

namespace ospnext {

struct GenerationCost {
  struct Stage {
    std::string name;
    double seconds;
    int64_t peak_bytes;  // of the GPU within the stage; without one, of the process until its end
  };
  std::vector<Stage> stages;
  std::vector<double> step_seconds;  // of denoising
  // Share of denoising in which the GPU ran nothing, and of what comes after its first step; nothing on the CPU.
  std::optional<double> idle, idle_after_first;
};

// Runs text_to_video() once, for a prompt and a negative prompt that fill all rows of text. Frames are made into
// pixels in host memory, as for a file, and dropped. Throws as text_to_video() does.
GenerationCost measure_generation(const ModelSource& source, const ComputeOptions& compute,
                                  GenerationConfig config, const CancellationToken& cancel);

// A table of it. `passes`: of the transformer in a step.
std::string cost_table(const GenerationCost& cost, int64_t passes);

// `ospnext bench generate`.
void run_bench_generate(const Arguments& arguments, const CancellationToken& cancel);

}  // namespace ospnext
