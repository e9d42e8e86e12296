#include "bench/generation.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <numeric>

#include "bench/bench_config.h"
#include "bench/timing.h"
#include "core/fields.h"
#include "engine/gpu_trace.h"
#include "engine/join_world.h"
#include "engine/memory.h"
#include "engine/text_to_video.h"
#include "io/output_file.h"
#include "io/video.h"
#include "packages/random_model.h"

namespace ospnext {
namespace {

constexpr double kMega = 1e6, kGibibyte = 1 << 30;

// Traffic from the state `before` to the state `after` of a journal.
std::map<std::string, Traffic> traffic_between(const std::map<std::string, Traffic>& before,
                                               std::map<std::string, Traffic> after) {
  for (const auto& [purpose, earlier] : before) {
    Traffic& traffic = after.at(purpose);
    traffic.calls -= earlier.calls;
    traffic.bytes -= earlier.bytes;
    traffic.seconds -= earlier.seconds;
  }
  return after;
}

Traffic sum_of(const std::map<std::string, Traffic>& traffic) {
  Traffic sum;
  for (const auto& [purpose, one] : traffic) {
    sum.calls += one.calls;
    sum.bytes += one.bytes;
    sum.seconds += one.seconds;
  }
  return sum;
}

// Measures memory, step times, exchanges and the work of the leader's GPU while the pipeline runs.
class CostWatcher : public StageWatcher {
 public:
  CostWatcher(at::Device device, const WorkRanks& ranks, Profile* profile)
      : device_(device),
        journal_(ranks.world->journal()),
        leads_(ranks.leads()),
        profile_(profile) {}

  void began(const Stage& stage) override {
    if (device_.is_cuda()) {
      torch::cuda::synchronize(device_.index());  // wait for the previous stage's work
      reset_peak_memory(device_);
    }
    if (profile_ != nullptr) {
      profile_->began(stage);
    }
    if (stage.kind == Stage::Kind::kDenoise) {
      if (device_.is_cuda() && leads_ &&
          profile_ == nullptr) {  // only one recording of a GPU can run
        trace_.emplace();
      }
      traffic_before_ = journal_.traffic();
      step_began_ = Clock::now();
    }
  }

  void stepped(const Stage& stage) override {
    if (stage.kind == Stage::Kind::kDenoise) {
      const std::chrono::duration<double> seconds = Clock::now() - step_began_;
      cost.step_seconds.push_back(seconds.count());
      cost.traffic = traffic_between(traffic_before_, journal_.traffic());
      if (cost.step_seconds.size() == 1) {
        first_step_ended_ = trace_clock();
        traffic_before_ = journal_.traffic();
      }
    }
    if (profile_ != nullptr) {
      profile_->stepped(stage);
    }
    step_began_ = Clock::now();
  }

  void ended(const Stage& stage, double seconds) override {
    if (profile_ != nullptr) {
      profile_->ended(stage, seconds);
    }
    if (trace_) {
      const std::vector<Interval> work = trace_->stop();
      trace_.reset();
      cost.idle = idle_share(work);
      cost.idle_after_first = idle_share(work, first_step_ended_);
    }
    const PeakMemory peak = peak_memory(device_);
    cost.stages.push_back({.name = stage.title(),
                           .seconds = seconds,
                           .peak_bytes = device_.is_cuda() ? peak.cuda_bytes : peak.host_bytes});
  }

  GenerationCost cost;

 private:
  using Clock = std::chrono::steady_clock;

  at::Device device_;
  const Journal& journal_;
  const bool leads_;
  std::map<std::string, Traffic> traffic_before_;
  Profile* const profile_;
  std::optional<GpuTrace> trace_;
  Clock::time_point step_began_;
  int64_t first_step_ended_ = 0;
};

struct DroppedVideo : VideoReceiver {
  void latent(size_t, const at::Tensor&) override {}
  void frames(size_t, const at::Tensor& frames) override { video_to_pixels(frames); }
  void finished(size_t) override {}
};

}  // namespace

std::string long_text(const std::string& words, int64_t rows) {
  std::string text;
  for (int64_t i = 0; i < rows; ++i) {
    text += words;
  }
  return text;
}

std::vector<double> GenerationCost::settled_steps() const {
  return {step_seconds.begin() + (step_seconds.size() > 1 ? 1 : 0), step_seconds.end()};
}

int64_t GenerationCost::peak_bytes() const {
  int64_t bytes = 0;
  for (const Stage& stage : stages) {
    bytes = std::max(bytes, stage.peak_bytes);
  }
  return bytes;
}

GenerationCost measure_generation(const ModelSource& source, const ComputeOptions& compute,
                                  GenerationConfig config, const CancellationToken& cancel,
                                  const WorkRanks& ranks, Profile* profile) {
  const int64_t rows = source.transformer_config().text_len;
  config.negative_prompt = long_text("a red ball rolls ", rows);
  const VideoSample sample{.prompt = long_text("a heron takes off ", rows), .seed = 1, .noise = {}};
  CostWatcher watcher(compute.device, ranks, profile);
  Progress progress(nullptr, false, &watcher);
  DroppedVideo receiver;
  text_to_video(source, compute, config, {sample}, receiver, progress, cancel, ranks,
                profile == nullptr ? nullptr : &profile->spans());
  return watcher.cost;
}

std::string cost_table(const GenerationCost& cost, int64_t passes) {
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
  for (const GenerationCost::Stage& stage : cost.stages) {
    row(stage.name.c_str(), stage.seconds, stage.peak_bytes);
    seconds += stage.seconds;
  }
  row("all", seconds, cost.peak_bytes());
  const auto pass_ms = [&](const std::vector<double>& steps) {
    const double sum = std::accumulate(steps.begin(), steps.end(), 0.0);
    return 1e3 * sum / static_cast<double>(passes * std::ssize(steps));
  };
  std::snprintf(line, sizeof line, "a pass: %.1f ms", pass_ms(cost.step_seconds));
  table += line;
  if (cost.step_seconds.size() > 1) {
    std::snprintf(line, sizeof line, ", after the first step %.1f ms",
                  pass_ms(cost.settled_steps()));
    table += line;
  }
  std::snprintf(line, sizeof line, "\na step: %.4f s, the median of %zd\n",
                median(cost.settled_steps()), cost.settled_steps().size());
  table += line;
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

std::string exchange_table(const GenerationCost& cost) {
  const auto steps = static_cast<double>(cost.settled_steps().size());
  char line[160];
  std::snprintf(line, sizeof line, "%-20s%10s%10s%10s\n", "exchange in a step", "calls", "MB sent",
                "s");
  std::string table = line;
  const auto row = [&](const char* name, const Traffic& traffic) {
    std::snprintf(line, sizeof line, "%-20s%10.0f%10.2f%10.4f\n", name,
                  static_cast<double>(traffic.calls) / steps,
                  static_cast<double>(traffic.bytes) / kMega / steps, traffic.seconds / steps);
    table += line;
  };
  for (const auto& [purpose, traffic] : cost.traffic) {
    if (traffic.calls > 0) {
      row(purpose.c_str(), traffic);
    }
  }
  row("all", sum_of(cost.traffic));
  return table;
}

std::vector<RankCost> costs_of_ranks(const GenerationCost& cost, const ProcessGroup& all,
                                     at::Device device) {
  const auto steps = static_cast<double>(cost.settled_steps().size());
  const Traffic traffic = sum_of(cost.traffic);
  const at::Tensor own =
      at::tensor({static_cast<double>(cost.peak_bytes()),
                  static_cast<double>(traffic.bytes) / steps, traffic.seconds / steps},
                 at::kDouble)
          .unsqueeze(0);  // [1, 3]
  const at::Tensor of_all =
      all.all_gather(own.to(device), std::vector<int64_t>(all.size(), 1), "costs")
          .to(at::kCPU);  // [ranks, 3]
  std::vector<RankCost> costs;
  for (int rank = 0; rank < all.size(); ++rank) {
    const double* const numbers = of_all.const_data_ptr<double>() + 3 * rank;
    costs.push_back({static_cast<int64_t>(numbers[0]), numbers[1], numbers[2]});
  }
  return costs;
}

std::string rank_table(const std::vector<RankCost>& costs) {
  char line[160];
  std::snprintf(line, sizeof line, "%-20s%10s%10s%14s\n", "rank", "peak GiB", "MB/step",
                "exchange s");
  std::string table = line;
  for (size_t rank = 0; rank < costs.size(); ++rank) {
    const RankCost& cost = costs[rank];
    std::snprintf(line, sizeof line, "%-20zu%10.2f%10.2f%14.4f\n", rank,
                  static_cast<double>(cost.peak_bytes) / kGibibyte, cost.sent_bytes / kMega,
                  cost.exchange_seconds);
    table += line;
  }
  return table;
}

void bench_generation(const GenerationBenchConfig& asked, std::ostream& out,
                      const CancellationToken& cancel) {
  asked.world.check();
  BenchModel model = asked.model.model();
  model.compute.offload = asked.offload;
  GenerationConfig config = asked.generation;
  config.width = model.width;
  config.height = model.height;
  config.num_frames = model.num_frames;
  config.check(model.vae);
  const ProcessPlace place = process_place();
  model.compute.device = device_of_rank(model.compute.device, place);
  std::optional<Profile> profile;
  if (!asked.profile.empty()) {
    if (place.rank == 0) {
      check_writable(asked.profile, "`profile`");
    }
    profile.emplace(model.compute.device);
  }
  GenerationBenchConfig common = asked;
  common.generation = config;
  const auto world =
      join_world(place, asked.world, model.compute.device, fields_to_json(common), cancel);
  const RandomModelSource source(model.transformer, model.text_encoder, model.vae, 0);
  const WorkRanks ranks = divide_work(world, asked.mesh, source, model.compute, config, 1);
  if (ranks.leads()) {
    out << asked.model.title(model) << ", " << config.steps << " step(s)" << std::endl;
  }
  if (profile) {
    world->journal().record_to(profile->spans());
  }
  const GenerationCost cost = measure_generation(source, model.compute, config, cancel, ranks,
                                                 profile ? &*profile : nullptr);
  const std::vector<RankCost> costs = costs_of_ranks(cost, world->all(), model.compute.device);
  if (ranks.leads()) {
    out << cost_table(cost, config.passes() / ranks.mesh.cfg);
    if (costs.size() > 1) {
      out << exchange_table(cost) << rank_table(costs);
    }
    out << std::flush;
  }
  if (profile) {
    report_profile(gather_spans(profile->records(), *world, model.compute.device), asked.profile,
                   out);
  }
  world->finish();
}

}  // namespace ospnext
