#include "rl/policy_training.h"

#include <filesystem>
#include <optional>

#include "core/fields.h"
#include "core/log.h"
#include "core/torch/cuda_graph.h"
#include "engine/prompts.h"
#include "rl/policy_objective.h"
#include "rl/policy_setup.h"
#include "train/checkpoint_model.h"
#include "train/trained_model_source.h"
#include "train/training_checkpoint.h"
#include "train/training_run.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// The loop's settings. `steps` and `checkpoint_interval` count updates, of which an epoch has fewer
// where groups without spread are dropped; the objective says when the last epoch is over.
TrainingConfig loop_settings(const RlConfig& config) {
  TrainingConfig loop;
  loop.output = config.output;
  loop.device = config.device;
  loop.precision = config.precision;
  loop.seed = config.seed;
  loop.accumulate = config.update.accumulate;
  const int64_t epoch = PolicyObjective::updates_of_an_epoch(config) / loop.accumulate;
  loop.steps = config.epochs * epoch;
  loop.learning_rate = config.update.learning_rate;
  loop.learning_rate_schedule = "constant";
  loop.warmup_steps = 0;
  loop.adamw = config.update.adamw;
  loop.max_gradient_norm = config.update.max_gradient_norm;
  loop.adaptive_clip = config.update.adaptive_clip;
  loop.ema = config.update.ema;
  loop.log_interval = config.log_interval;
  loop.checkpoint_interval = config.save_every * epoch;
  loop.max_seconds = config.max_seconds;
  return loop;
}

// Writes what was trained: the last checkpoint, or if a guard has ended the training the best one.
void write_result(const RlConfig& config, const ModelFiles& files, const std::string& stop_reason) {
  std::optional<fs::path> best;
  if (!stop_reason.empty()) {
    best = best_checkpoint(fs::path(config.output) / "checkpoints");
    warn("a guard has ended the training: " + stop_reason + "; what is written is of " +
         (best ? "the best checkpoint, " + best->filename().string()
               : "the last checkpoint: there is none from before"));
  }
  write_averages(config.output, &files, best);
}

std::optional<SampleClips> sample_clips(const RlConfig& config, const ModelSource& source,
                                        const ComputeOptions& compute, const TrainingRanks& ranks,
                                        const CancellationToken& cancel) {
  if (config.eval_prompts.empty()) {
    return std::nullopt;
  }
  SampleFields fields;
  fields.sample_interval = config.eval_every;
  fields.sample_prompts = config.eval_prompts;
  fields.sample_format = config.eval_format;
  GenerationConfig generation = PolicyObjective::generation_of(config);
  generation.steps = config.eval_steps;
  return SampleClips(fields, source, compute, ranks.sampling(), generation,
                     fs::path(config.output) / "samples", cancel);
}

}  // namespace

bool train_policy(const RlConfig& config, Progress& progress, const CancellationToken& cancel) {
  config.check();
  ComputeOptions compute = parse_transformer_compute(config.device, config.precision);
  const ProcessPlace place = process_place();
  compute.device = device_of_rank(compute.device, place);
  compute.offload = config.checkpointing.offload_weights;
  const SideStream stream(compute.device);
  const SideStream::Scope on_stream(stream);
  const auto world =
      join_world(place, config.world, compute.device, fields_to_json(config), cancel);
  const TrainingConfig loop = loop_settings(config);
  const auto lock = lock_output(loop, world->all().rank() == 0);
  const ModelFiles files = config.model.find();
  const TransformerConfig sizes = read_transformer_config(files.require(ModelPart::kTransformer));
  const std::vector<std::string> prompts = read_prompts(config.prompts);
  const TrainingRanks ranks = training_ranks(
      world, config.mesh, sizes, config.rollout.sample_batch_size * world->all().size());
  const ModelFileSource initial(files);
  PolicyTrainee trainee = initial_trainee(config, initial, compute, ranks);
  const TrainedTransformerSource source(files, trainee.transformer);
  const GenerationConfig generation = PolicyObjective::generation_of(config);
  generation.check(source.vae_config());
  VideoModel model(source, compute, ranks.work);
  model.load_transformer();
  std::vector<std::string> texts = prompts;
  texts.push_back(generation.negative_prompt);
  embed_all(model, texts, progress, cancel);
  if (ranks.work.sequence.all.rank() == 0) {
    model.load_vae(generation.vae_dtype(compute.dtype));
  }
  TrainedParameters parameters = trainee.parameters(ranks, source.text_encoder_config());
  const std::optional<SampleClips> samples = sample_clips(config, source, compute, ranks, cancel);
  Policy policy(trainee.transformer, reference_of(config, initial, compute, ranks, trainee), ranks,
                config.checkpointing.parse());
  PolicyObjective objective(
      model, policy, ranks, samples ? &*samples : nullptr,
      {.config = config,
       .prompts = prompts,
       .rewards = parse_rewards(config.reward, config.scoring),
       .watched = config.watch.empty() ? std::vector<WeightedReward>()
                                       : parse_rewards(config.watch, config.scoring)},
      cancel);
  TrainingRun run(loop, parameters, objective, progress, cancel);
  if (samples && run.step() == 0) {
    objective.sample(0);
  }
  const bool finished = run.run();
  if (finished && ranks.work.leads()) {
    write_result(config, files, objective.stop_reason());
  }
  world->finish();
  return finished;
}

}  // namespace ospnext
