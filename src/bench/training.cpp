#include "bench/training.h"

#include <cstdio>
#include <optional>

#include "bench/generation.h"
#include "bench/parameter_step.h"
#include "bench/timing.h"
#include "core/fields.h"
#include "core/number_check.h"
#include "core/torch/random.h"
#include "engine/gpu_trace.h"
#include "engine/memory.h"
#include "engine/model_flops.h"
#include "packages/random_model.h"
#include "train/flow_matching.h"
#include "train/trained_parameters.h"

namespace ospnext {
namespace {

constexpr double kGibibyte = 1 << 30, kTera = 1e12;

// Random samples of one process: the first `count` of a batch.
FlowSamples random_samples(const BenchModel& model, int64_t count) {
  at::Generator generator = seeded_generator(model.compute.device, 1, "samples");
  const auto draw = [&](std::vector<int64_t> shape) {
    shape[0] = count;
    return at::randn(shape, generator, at::TensorOptions().device(model.compute.device));
  };
  return {.latent = draw(model.latent_shape()),
          .noise = draw(model.latent_shape()),
          .sigma = at::full({count}, 0.5, at::TensorOptions().device(model.compute.device)),
          .text = draw({1, model.transformer.text_len, model.transformer.text_dim})};
}

// A training of all weights.
class Training {
 public:
  Training(const TrainingBenchConfig& config, const BenchModel& model, const TrainingRanks& ranks)
      : config_(config),
        transformer_(trainee(config, model, ranks)),
        parameters_(whole_parameters(transformer_, ""), ranks, &transformer_->sharded_weights()),
        end_(parameters_, {.adamw = {},
                           .ema = config.ema ? std::optional(EmaConfig()) : std::nullopt,
                           .offload = config.offload_optimizer}),
        blocks_(transformer_, config.checkpointing.parse()),
        tables_(model.transformer, model.grid(), model.compute.device, ranks.work.sequence),
        samples_(random_samples(model, config.batch_size / ranks.work.mesh.data)) {}

  void step() {
    Execution run{transformer_->numerics()};
    run.blocks = &blocks_;
    for (int64_t i = 0; i < config_.accumulate; ++i) {
      flow_matching_loss(transformer_, samples_, tables_, run).backward();
    }
    end_.take(config_.accumulate);
  }

 private:
  static Transformer trainee(const TrainingBenchConfig& config, const BenchModel& model,
                             const TrainingRanks& ranks) {
    const RandomModelSource source(model.transformer, model.text_encoder, model.vae, 0);
    ComputeOptions masters = model.compute;
    masters.dtype = at::kFloat;
    masters.offload = config.checkpointing.offload_weights;
    Transformer transformer = source.transformer(masters, ranks.weights(model.compute.dtype));
    train_all_weights(transformer, model.compute.dtype);
    return transformer;
  }

  TrainingBenchConfig config_;
  Transformer transformer_;
  TrainedParameters parameters_;
  ParameterStep end_;
  TrainingBlocks blocks_;
  TokenTables tables_;
  FlowSamples samples_;
};

// Runs the steps. The first one also sets up process groups and kernels: it is not in the traffic.
GenerationCost measure(Training& training, int64_t steps, at::Device device, Journal& journal,
                       const CancellationToken& cancel) {
  GenerationCost cost;
  if (device.is_cuda()) {
    reset_peak_memory(device);
  }
  for (int64_t i = 0; i < steps; ++i) {
    cancel.check();
    journal.at_step(i);
    cost.step_seconds.push_back(seconds_of(device, [&] { training.step(); }));
    if (i == 0 && steps > 1) {
      journal.forget_traffic();
    }
  }
  cost.traffic = journal.traffic();
  const PeakMemory peak = peak_memory(device);
  cost.stages = {{"steps", 0, device.is_cuda() ? peak.cuda_bytes : peak.host_bytes}};
  return cost;
}

// The kernels of one more step of all processes, as a table.
std::string traced_step(Training& training, const TrainingBenchConfig& config, at::Device device) {
  GpuTrace trace;
  training.step();
  torch::cuda::synchronize(device.index());
  return kernel_table(trace.stop(), static_cast<size_t>(config.kernels));
}

std::string summary(const TrainingBenchConfig& config, const BenchModel& model,
                    const GenerationCost& cost, int processes) {
  const double seconds = median(cost.settled_steps());
  const double samples = static_cast<double>(config.batch_size * config.accumulate) / seconds;
  char text[256];
  std::snprintf(text, sizeof text,
                "a step: %.4f s, the median of %zd\n%.3f samples/s, %.1f model TFLOP/s a process, "
                "at most %.2f GiB\n",
                seconds, cost.settled_steps().size(), samples,
                3 * forward_flops(model.transformer, model.grid()) * samples / processes / kTera,
                static_cast<double>(cost.peak_bytes()) / kGibibyte);
  return text;
}

}  // namespace

void TrainingBenchConfig::check() const {
  constexpr int64_t kMost = 1'000'000;
  world.check();
  checkpointing.parse();
  check_range("`layers`", layers, int64_t{0}, int64_t{1000});
  check_range("`batch_size`", batch_size, int64_t{1}, kMost);
  check_range("`accumulate`", accumulate, int64_t{1}, kMost);
  check_range("`steps`", steps, int64_t{1}, kMost);
  check_range("`kernels`", kernels, int64_t{0}, kMost);
  if (model.precision.starts_with("hif8")) {
    throw InputError("`precision`: found " + model.precision + ", expected float32, bf16 or auto");
  }
}

void bench_training(const TrainingBenchConfig& config, std::ostream& out,
                    const CancellationToken& cancel) {
  config.check();
  BenchModel model = config.model.model();
  if (config.layers > 0) {
    model.transformer.num_layers = config.layers;
    model.transformer.check("bench train");
  }
  const ProcessPlace place = process_place();
  model.compute.device = device_of_rank(model.compute.device, place);
  const auto world =
      join_world(place, config.world, model.compute.device, fields_to_json(config), cancel);
  const TrainingRanks ranks =
      training_ranks(world, config.mesh, model.transformer, config.batch_size);
  const bool leads = ranks.work.leads();
  if (leads) {
    out << config.model.title(model) << ", " << model.transformer.num_layers
        << " blocks, recompute " << config.checkpointing.recompute << ", " << config.batch_size
        << " clip(s)" << std::endl;
  }
  Training training(config, model, ranks);
  const GenerationCost cost =
      measure(training, config.steps, model.compute.device, world->journal(), cancel);
  const bool traced = config.kernels > 0 && model.compute.device.is_cuda();
  const std::string kernels =
      traced ? traced_step(training, config, model.compute.device) : std::string();
  const std::vector<RankCost> costs = costs_of_ranks(cost, world->all(), model.compute.device);
  if (leads) {
    out << summary(config, model, cost, world->all().size());
    if (costs.size() > 1) {
      out << exchange_table(cost) << rank_table(costs);
    }
    out << kernels << std::flush;
  }
  world->finish();
}

}  // namespace ospnext
