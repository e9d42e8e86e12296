#include "bench/reinforcement.h"

#include <cstdio>
#include <memory>
#include <optional>

#include "bench/generation.h"
#include "bench/parameter_step.h"
#include "bench/rl_cost.h"
#include "bench/slow_reward.h"
#include "bench/timing.h"
#include "core/fields.h"
#include "core/number_check.h"
#include "core/torch/cuda_graph.h"
#include "core/torch/random.h"
#include "engine/gpu_trace.h"
#include "engine/memory.h"
#include "packages/random_model.h"
#include "rl/policy_objective.h"
#include "rl/policy_setup.h"

namespace ospnext {
namespace {

// Random weights, but the transformer is the one that is trained.
class OpenedRandomModel final : public RandomModelSource {
 public:
  OpenedRandomModel(const RandomModelSource& others, Transformer transformer)
      : RandomModelSource(others), transformer_(std::move(transformer)) {}
  using ModelSource::transformer;
  Transformer transformer(const ComputeOptions&, const WeightRanks&) const override {
    return transformer_;
  }

 private:
  Transformer transformer_;
};

// A text encoder of one block is enough for random rows of text.
RandomModelSource random_model(const BenchModel& model) {
  Umt5Config text_encoder = model_of_size("small", "`size`").text_encoder;
  text_encoder.d_model = model.text_encoder.d_model;
  text_encoder.num_layers = 1;
  return {model.transformer, text_encoder, model.vae, 0};
}

// The groups of prompts that a batch has at most, each a text that fills all rows.
std::vector<std::string> random_prompts(const RlConfig& config, const TrainingRanks& ranks,
                                        int64_t rows) {
  const int64_t videos = config.rollout.sample_batch_size * ranks.work.mesh.data;
  std::vector<std::string> prompts;
  for (int64_t i = 0; i < std::max<int64_t>(1, videos / config.rollout.group_size); ++i) {
    prompts.push_back(long_text("heron " + std::to_string(i) + " takes off ", rows));
  }
  return prompts;
}

std::vector<WeightedReward> slow_reward(double seconds_per_video) {
  return {{.name = "slow", .weight = 1, .reward = std::make_shared<SlowReward>(seconds_per_video)}};
}

// A training of a random model by reinforcement.
class PolicyBench {
 public:
  PolicyBench(const RlBenchConfig& config, const BenchModel& bench, const TrainingRanks& ranks,
              const CancellationToken& cancel)
      : config_(config.rl),
        ranks_(ranks),
        cancel_(cancel),
        compute_(bench.compute),
        latent_shape_(bench.latent_shape()),
        prompts_(random_prompts(config_, ranks, bench.transformer.text_len)),
        random_(random_model(bench)),
        trainee_(initial_trainee(config_, random_, compute_, ranks)),
        source_(random_, trainee_.transformer),
        model_(source_, compute_, ranks.work),
        parameters_(trainee_.parameters(ranks, random_.text_encoder_config())),
        step_(parameters_, {.adamw = config_.update.adamw,
                            .ema = config_.update.ema,
                            .learning_rate = config_.update.learning_rate}),
        policy_(trainee_.transformer, reference_of(config_, random_, compute_, ranks, trainee_),
                ranks, config_.checkpointing.parse()),
        objective_(objective_of(config_, config.reward_seconds_per_video)) {
    Progress silent(nullptr, false);
    std::vector<std::string> texts = prompts_;
    texts.push_back(config_.rollout.negative_prompt);
    model_.load_transformer();
    embed_all(model_, texts, silent, cancel);
    if (ranks.work.sequence.all.rank() == 0) {
      model_.load_vae(PolicyObjective::generation_of(config_).vae_dtype(compute_.dtype));
    }
  }

  EpochCost epoch() { return epoch_of(objective_); }

  // An epoch of two steps, which sets up kernels, memory and process groups.
  EpochCost short_epoch() {
    RlConfig few = config_;
    few.rollout.window = {.algorithm = "osp", .sde_steps = 1};
    few.rollout.steps = 2;
    PolicyObjective objective = objective_of(few, 0);
    return epoch_of(objective);
  }

  // The passes of an update without its loss: seconds.
  double passes_alone() {
    const int64_t n = config_.update.train_batch_size;
    const PolicyTexts texts = policy_texts(model_, prompts_of(n), config_.rollout);
    const at::Tensor latent = noise(n).to(compute_.device);
    const NoiseTime time{.noise_level = 1, .timestep = at::full({1}, 1000.0, latent.options())};
    const double seconds = seconds_of(compute_.device, [&] {
      for (int64_t j = 0; j < objective_.trained_steps(); ++j) {
        if (config_.update.loss.kl_beta > 0) {
          policy_.reference_velocity(latent, time, texts);
        }
        const at::Tensor velocity = policy_.velocity(latent, time, texts);
        velocity.backward(at::ones_like(velocity));
      }
    });
    step_.forget_gradients();
    return seconds;
  }

  // From now on the LoRA is as `generate --lora-mode live` reads it, and is not trained.
  void freeze_lora() {
    std::vector<LowRankChange> changes;
    for (const auto& [linear, change] : trainee_.lora.changes) {
      changes.push_back({linear + ".weight", change.down.detach(), change.up.detach(),
                         change.factor, change.lowest_noise_level});
    }
    if (!changes.empty()) {
      model_.set_adapters(
          {{std::make_shared<const Adapter>(make_adapter(changes, compute_.dtype)), 1.0}});
    }
    sample(std::min<int64_t>(2, objective_.plan().steps()));  // sets up and records kernels
  }

  // The steps of a rollout, by the engine: seconds.
  double sampling_alone() { return sample(objective_.plan().steps()); }

 private:
  PolicyObjective objective_of(const RlConfig& config, double reward_seconds) {
    return {model_,
            policy_,
            ranks_,
            /*samples=*/nullptr,
            {.config = config,
             .prompts = prompts_,
             .rewards = slow_reward(reward_seconds),
             .watched = {}},
            cancel_};
  }

  EpochCost epoch_of(PolicyObjective& objective) {
    EpochCost cost;
    cost.whole = seconds_of(compute_.device, [&] {
      do {
        for (int64_t i = 0; i < config_.update.accumulate; ++i) {
          cost.add(objective.add_gradients());
        }
        cost.optimizer +=
            seconds_of(compute_.device, [&] { step_.take(config_.update.accumulate); });
      } while (!objective.can_pause());
    });
    return cost;
  }

  double sample(int64_t steps) {
    Progress silent(nullptr, false);
    GenerationConfig generation = PolicyObjective::generation_of(config_);
    generation.steps = steps;
    const int64_t n = config_.rollout.sample_batch_size;
    const at::Tensor start = noise(n);
    return seconds_of(compute_.device, [&] {
      model_.sample(prompts_of(n), start, generation, {silent, cancel_});
    });
  }

  // [n, C, F, h, w] float32 on the CPU
  at::Tensor noise(int64_t n) const {
    std::vector<int64_t> shape = latent_shape_;
    shape[0] = n;
    return at::randn(shape, seeded_generator(config_.seed, "noise of a measurement"));
  }

  std::vector<std::string> prompts_of(int64_t n) const {
    std::vector<std::string> prompts;
    for (int64_t i = 0; i < n; ++i) {
      prompts.push_back(prompts_[static_cast<size_t>(i) % prompts_.size()]);
    }
    return prompts;
  }

  const RlConfig config_;
  const TrainingRanks& ranks_;
  const CancellationToken& cancel_;
  const ComputeOptions compute_;
  const std::vector<int64_t> latent_shape_;
  const std::vector<std::string> prompts_;
  const RandomModelSource random_;
  PolicyTrainee trainee_;
  const OpenedRandomModel source_;
  VideoModel model_;
  TrainedParameters parameters_;
  ParameterStep step_;
  Policy policy_;
  PolicyObjective objective_;
};

// Records the work of a GPU while the result lives; null without a GPU.
std::unique_ptr<GpuTrace> traced(at::Device device) {
  return device.is_cuda() ? std::make_unique<GpuTrace>() : nullptr;
}

struct Measured {
  RlCost cost;
  GenerationCost totals;  // memory, exchanges, and whole epochs behind a short one
};

// Runs the short epoch and the measured ones.
Measured measure_epochs(PolicyBench& bench, int64_t epochs, at::Device device, Journal& journal) {
  Measured measured;
  if (device.is_cuda()) {
    reset_peak_memory(device);
  }
  measured.totals.step_seconds = {bench.short_epoch().whole};
  journal.forget_traffic();
  const auto trace = traced(device);
  for (int64_t i = 0; i < epochs; ++i) {
    journal.at_step(i);
    measured.cost.epochs.push_back(bench.epoch());
    measured.totals.step_seconds.push_back(measured.cost.epochs.back().whole);
  }
  if (trace) {
    measured.cost.idle = idle_share(trace->stop());
  }
  measured.totals.traffic = journal.traffic();
  const PeakMemory peak = peak_memory(device);
  measured.totals.stages = {{"epochs", 0, device.is_cuda() ? peak.cuda_bytes : peak.host_bytes}};
  return measured;
}

// What rollouts and updates are compared with, recorded as the epochs were.
void measure_alone(PolicyBench& bench, int64_t times, at::Device device, RlCost& cost) {
  const auto trace = traced(device);
  for (int64_t i = 0; i < times; ++i) {
    cost.passes.push_back(bench.passes_alone());
  }
  bench.freeze_lora();
  for (int64_t i = 0; i < times; ++i) {
    cost.sampling.push_back(bench.sampling_alone());
  }
}

std::string title_of(const RlBenchConfig& config, const BenchModel& model,
                     const TrainingRanks& ranks) {
  const RlConfig& rl = config.rl;
  char text[320];
  std::snprintf(text, sizeof text,
                "%s, %ld blocks, recompute %s, LoRA of rank %ld\nan epoch: %ld rollout(s) of %ld "
                "videos, in groups of %ld; %ld steps, %ld of them with noise; %g s a video for the "
                "reward",
                config.model().title(model).c_str(), model.transformer.num_layers,
                rl.checkpointing.recompute.c_str(), rl.lora.lora_rank,
                rl.rollout.rollouts_of_an_epoch(),
                rl.rollout.sample_batch_size * ranks.work.mesh.data, rl.rollout.videos_of_a_group(),
                rl.rollout.steps, rl.rollout.window.sde_steps, config.reward_seconds_per_video);
  return text;
}

// The largest idle share of all GPUs.
std::optional<double> largest_idle(const std::optional<double>& own, const ProcessGroup& all,
                                   at::Device device) {
  const double largest =
      all.all_max(at::full({1}, own.value_or(-1), at::kDouble).to(device), "idle").item<double>();
  return largest < 0 ? std::nullopt : std::optional(largest);
}

}  // namespace

BenchModelFields RlBenchConfig::model() const {
  return {.model_size = model_size,
          .width = rl.rollout.width,
          .height = rl.rollout.height,
          .num_frames = rl.rollout.num_frames,
          .device = rl.device,
          .precision = rl.precision};
}

void RlBenchConfig::check() const {
  rl.check_method();
  check_range("`layers`", layers, int64_t{0}, int64_t{1000});
  check_range("`reward_seconds_per_video`", reward_seconds_per_video, 0.0, 3600.0);
}

void bench_reinforcement(const RlBenchConfig& config, std::ostream& out,
                         const CancellationToken& cancel) {
  config.check();
  const RlConfig& rl = config.rl;
  BenchModel model = config.model().model();
  if (config.layers > 0) {
    model.transformer.num_layers = config.layers;
    model.transformer.check("bench rl");
  }
  const ProcessPlace place = process_place();
  const at::Device device = device_of_rank(model.compute.device, place);
  model.compute.device = device;
  model.compute.offload = rl.checkpointing.offload_weights;
  const SideStream stream(device);
  const SideStream::Scope on_stream(stream);
  const auto world = join_world(place, rl.world, device, fields_to_json(config), cancel);
  const TrainingRanks ranks = training_ranks(world, rl.mesh, model.transformer,
                                             rl.rollout.sample_batch_size * world->all().size());
  const bool leads = ranks.work.leads();
  if (leads) {
    out << title_of(config, model, ranks) << std::endl;
  }
  PolicyBench bench(config, model, ranks, cancel);
  auto [cost, totals] = measure_epochs(bench, rl.epochs, device, world->journal());
  cost.rollouts = rl.rollout.rollouts_of_an_epoch();
  cost.idle = largest_idle(cost.idle, world->all(), device);
  const std::vector<RankCost> costs = costs_of_ranks(totals, world->all(), device);
  if (leads) {  // now, since what follows takes as long again
    out << parts_table(cost);
    if (costs.size() > 1) {
      out << exchange_table(totals);
    }
    out << rank_table(costs) << std::flush;
  }
  measure_alone(bench, rl.epochs, device, cost);
  if (leads) {
    out << comparisons(cost) << std::flush;
  }
  world->finish();
}

}  // namespace ospnext
