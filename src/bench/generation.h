// What a whole generation costs, stage by stage.
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

// What `ospnext bench generate` makes: one video, by a model with random weights.
struct GenerationBenchConfig {
  BenchModelFields model;
  GenerationConfig generation;
  MeshFields mesh;
  WorldFields world;
  std::string profile;

  GenerationBenchConfig() { generation.steps = 4; }

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    field("steps", generation.steps, "denoising steps, of two passes each");
    field("batch_guidance", generation.batch_guidance, "both passes of a step as one batch");
    field("vae_tile", generation.vae_tile,
          "SIZE,STRIDE in pixels, none or auto, as generate has it");
    field("vae_precision", generation.vae_precision, "float32 or bf16 for the VAE alone, or auto");
    mesh.visit(field);
    world.visit(field);
    field("profile", profile, "JSON to write and table to print, as generate has it");
  }
};

// `ospnext bench generate`: makes the video and writes the tables above to `out`. Called by all
// processes; the leader writes. Throws InputError for a configuration that does not fit.
void bench_generation(const GenerationBenchConfig& config, std::ostream& out,
                      const CancellationToken& cancel);

}  // namespace ospnext
