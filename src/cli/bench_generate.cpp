#include "cli/bench_generate.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <numeric>

#include "cli/bench_flags.h"
#include "cli/bench_gpu_trace.h"
#include "io/video.h"
#include "pipeline/memory.h"
#include "pipeline/random_model.h"
#include "pipeline/text_to_video.h"

namespace ospnext {
namespace {

// Takes memory, steps and the GPU's work while the pipeline runs.
class CostWatcher : public StageWatcher {
 public:
  explicit CostWatcher(at::Device device) : device_(device) {}

  void began(const std::string& stage) override {
    if (device_.is_cuda()) {
      torch::cuda::synchronize(device_.index());  // what is left of the stage before
      reset_peak_memory(device_);
    }
    if (stage == kDenoise) {
      if (device_.is_cuda()) {
        trace_.emplace();
      }
      step_began_ = Clock::now();
    }
  }

  void stepped(const std::string& stage) override {
    if (stage == kDenoise) {
      const auto now = Clock::now();
      cost.step_seconds.push_back(std::chrono::duration<double>(now - step_began_).count());
      step_began_ = now;
      if (cost.step_seconds.size() == 1) {
        first_step_ended_ = trace_clock();
      }
    }
  }

  void ended(const std::string& stage, double seconds) override {
    if (trace_) {
      const std::vector<Interval> work = trace_->stop();
      trace_.reset();
      cost.idle = idle_share(work);
      cost.idle_after_first = idle_share(work, first_step_ended_);
    }
    const PeakMemory peak = peak_memory(device_);
    cost.stages.push_back({.name = stage,
                           .seconds = seconds,
                           .peak_bytes = device_.is_cuda() ? peak.cuda_bytes : peak.host_bytes});
  }

  GenerationCost cost;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr const char* kDenoise = "denoise";

  at::Device device_;
  std::optional<GpuTrace> trace_;
  Clock::time_point step_began_;
  int64_t first_step_ended_ = 0;
};

struct DroppedVideo : VideoReceiver {
  void latent(size_t, const at::Tensor&) override {}
  void frames(size_t, const at::Tensor& frames) override { video_to_pixels(frames); }
  void finished(size_t) override {}
};

// A text of more tokens than the transformer takes.
std::string long_text(const std::string& words, int64_t rows) {
  std::string text;
  for (int64_t i = 0; i < rows; ++i) {
    text += words;
  }
  return text;
}

struct GenerateFlags {
  BenchModelFlags model;
  GenerationConfig generation;

  GenerateFlags() { generation.steps = 4; }

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    field("steps", generation.steps, "denoising steps, of two passes each");
    field("batch_guidance", generation.batch_guidance, "both passes of a step as one batch");
    field("vae_tile", generation.vae_tile,
          "SIZE,STRIDE in pixels, none or auto, as generate has it");
    field("vae_precision", generation.vae_precision, "float32 or bf16 for the VAE alone, or auto");
  }
};

}  // namespace

GenerationCost measure_generation(const ModelSource& source, const ComputeOptions& compute,
                                  GenerationConfig config, const CancellationToken& cancel) {
  const int64_t rows = source.transformer_config().text_len;
  config.negative_prompt = long_text("a red ball rolls ", rows);
  const VideoSample sample{.prompt = long_text("a heron takes off ", rows), .seed = 1, .noise = {}};
  CostWatcher watcher(compute.device);
  Progress progress(nullptr, false, &watcher);
  DroppedVideo receiver;
  text_to_video(source, compute, config, {sample}, receiver, progress, cancel);
  return watcher.cost;
}

std::string cost_table(const GenerationCost& cost, int64_t passes) {
  constexpr double kGibibyte = 1 << 30;
  char line[160];
  std::string table;
  const auto row = [&](const char* name, double seconds, int64_t bytes) {
    std::snprintf(line, sizeof line, "%-20s%10.3f%10.2f\n", name, seconds,
                  static_cast<double>(bytes) / kGibibyte);
    table += line;
  };
  std::snprintf(line, sizeof line, "%-20s%10s%10s\n", "stage", "s", "peak GiB");
  table += line;
  double seconds = 0;
  int64_t bytes = 0;
  for (const GenerationCost::Stage& stage : cost.stages) {
    row(stage.name.c_str(), stage.seconds, stage.peak_bytes);
    seconds += stage.seconds;
    bytes = std::max(bytes, stage.peak_bytes);
  }
  row("all", seconds, bytes);
  const auto pass_ms = [&](size_t first) {
    const std::vector<double>& steps = cost.step_seconds;
    const double sum =
        std::accumulate(steps.begin() + static_cast<std::ptrdiff_t>(first), steps.end(), 0.0);
    return 1e3 * sum / static_cast<double>(passes * static_cast<int64_t>(steps.size() - first));
  };
  std::snprintf(line, sizeof line, "a pass: %.1f ms", pass_ms(0));
  table += line;
  if (cost.step_seconds.size() > 1) {
    std::snprintf(line, sizeof line, ", after the first step %.1f ms", pass_ms(1));
    table += line;
  }
  table += "\n";
  if (cost.idle) {
    std::snprintf(line, sizeof line, "GPU idle: %.2f %% of denoising", 100 * *cost.idle);
    table += line;
    if (cost.idle_after_first) {
      std::snprintf(line, sizeof line, ", after the first step %.2f %%",
                    100 * *cost.idle_after_first);
      table += line;
    }
    table += "\n";
  }
  return table;
}

void run_bench_generate(const Arguments& arguments, const CancellationToken& cancel) {
  GenerateFlags flags;
  if (!parse_flags("bench generate",
                   "Make one video with random weights, made in memory, and tell what each stage "
                   "took: seconds and, of a GPU, peak memory; and how long it idled in denoising.",
                   arguments, flags)) {
    return;
  }
  const BenchModel model = flags.model.model();
  GenerationConfig& config = flags.generation;
  config.width = model.width;
  config.height = model.height;
  config.num_frames = model.num_frames;
  config.check(VaeConfig());
  std::cout << flags.model.title(model) << ", " << config.steps << " step(s)" << std::endl;
  const RandomModelSource source(model.transformer, Umt5Config(), VaeConfig(), 0);
  const int64_t passes = config.batch_guidance ? 1 : 2;
  std::cout << cost_table(measure_generation(source, model.compute, config, cancel), passes)
            << std::flush;
}

}  // namespace ospnext
