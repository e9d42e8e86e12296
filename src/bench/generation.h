// Measures the cost of a whole generation, stage by stage.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "bench/bench_config.h"
#include "core/cancel.h"
#include "engine/generation_config.h"
#include "engine/join_world.h"
#include "engine/profile.h"
#include "engine/work_ranks.h"
#include "packages/model_source.h"
#include "parallel/journal.h"

namespace ospnext {

// `words` again and again: more tokens than `rows`, so that the text fills all rows of a model.
std::string long_text(const std::string& words, int64_t rows);

// Costs of one process.
struct GenerationCost {
  struct Stage {
    std::string name;
    double seconds;
    int64_t peak_bytes;  // of the GPU during the stage; on the CPU, of the process so far
  };
  std::vector<Stage> stages;
  std::vector<double> step_seconds;             // of denoising
  std::map<std::string, Traffic> traffic = {};  // by purpose, during settled_steps()
  // Share of the leader's denoising time in which the GPU ran nothing: overall, and after the first
  // step. Empty on the CPU.
  std::optional<double> idle = {}, idle_after_first = {};

  // Seconds of all steps after the first. The first step also sets up process groups and kernels.
  // If there is only one step, its time.
  std::vector<double> settled_steps() const;
  int64_t peak_bytes() const;  // the maximum over all stages
};

// Runs text_to_video() once. The prompt and the negative prompt fill all rows of text. Frames
// become pixels in host memory, as for a file, and are dropped. All processes call it. If `profile`
// is given, it records the run, and the GPU's idle time is not measured. Throws as text_to_video()
// does.
GenerationCost measure_generation(const ModelSource& source, const ComputeOptions& compute,
                                  GenerationConfig config, const CancellationToken& cancel,
                                  const WorkRanks& ranks = {}, Profile* profile = nullptr);

// The costs as a table. `passes`: transformer passes of this process in one step.
std::string cost_table(const GenerationCost& cost, int64_t passes);
// A table of the exchanges with other processes in one step.
std::string exchange_table(const GenerationCost& cost);

// Costs of one of several processes.
struct RankCost {
  int64_t peak_bytes = 0;
  double sent_bytes = 0;        // per step, to other processes
  double exchange_seconds = 0;  // per step, including the wait for others
};
// The costs of all ranks. All ranks call it, each with its own costs.
std::vector<RankCost> costs_of_ranks(const GenerationCost& cost, const ProcessGroup& all,
                                     at::Device device);
std::string rank_table(const std::vector<RankCost>& costs);

// Configuration of `ospnext bench generate`: one video by a model with random weights.
struct GenerationBenchConfig {
  BenchModelFields model;
  GenerationConfig generation;
  bool offload = false;
  MeshFields mesh;
  WorldFields world;
  std::string profile;

  GenerationBenchConfig() { generation.steps = 4; }

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    field("steps", generation.steps, "denoising steps, of two passes each");
    field("batch_guidance", generation.batch_guidance, "both passes of a step as one batch");
    field("vae_tile", generation.vae_tile, "SIZE,STRIDE in pixels, none or auto, as in generate");
    field("vae_precision", generation.vae_precision, "float32 or bf16 for the VAE alone, or auto");
    field("offload", offload, kOffloadHelp);
    mesh.visit(field);
    world.visit(field);
    field("profile", profile, "JSON trace file to write; also prints a table, as in generate");
  }
};

// `ospnext bench generate`: makes the video and writes the tables above to `out`. All processes
// call it; the leader writes. Throws InputError for a configuration that does not fit.
void bench_generation(const GenerationBenchConfig& config, std::ostream& out,
                      const CancellationToken& cancel);

}  // namespace ospnext
