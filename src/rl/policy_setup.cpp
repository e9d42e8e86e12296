#include "rl/policy_setup.h"

#include <string>

#include "core/error.h"
#include "io/readers/lora_keys.h"
#include "rl/update_rule.h"
#include "schedulers/schedules.h"
#include "train/checkpoint_model.h"
#include "train/lora_training.h"

namespace ospnext {

TrainedParameters PolicyTrainee::parameters(const TrainingRanks& ranks,
                                            const Umt5Config& text_encoder) {
  if (!lora.changes.empty()) {
    return lora_parameters(lora, transformer, ranks);
  }
  TrainedParameters weights(whole_parameters(transformer, kTransformerPrefix), ranks,
                            &transformer->sharded_weights(), kTransformerPrefix);
  weights.set_model(model_of_weights(transformer->config(), text_encoder));
  return weights;
}

namespace {

// The LoRA of the configuration. Throws InputError where it cannot act at its noise levels alone.
Adapter initial_lora(const RlConfig& config, const TransformerConfig& sizes, at::Device device) {
  Adapter lora = initial_adapter(config.trained_lora(), sizes, config.seed, device);
  if (config.lowest_noise_level == 0) {
    return lora;
  }
  for (auto& [layer, change] : lora.changes) {
    if (!depends_on_noise(layer + ".weight")) {
      throw InputError("`lora_targets`: found " + quoted(layer) +
                       " with `lowest_noise_level`, expected " + kNoisyLayers);
    }
    change.lowest_noise_level = config.lowest_noise_level;
  }
  return lora;
}

// Throws InputError if a step is trained in which the LoRA does not act.
void check_trained_levels(const RlConfig& config, const Adapter& lora) {
  const int64_t last = last_trained_step(config);
  const auto level = euler_levels(config.rollout.steps, config.rollout.shift)[last].item<float>();
  if (const double lowest = lowest_noise_level(lora); static_cast<float>(lowest) > level) {
    throw InputError("`lowest_noise_level`: found " + std::to_string(lowest) +
                     ", expected at most " + std::to_string(level) + ", the noise level of step " +
                     std::to_string(last + 1) + ", the last one that is trained");
  }
}

}  // namespace

PolicyTrainee initial_trainee(const RlConfig& config, const ModelSource& source,
                              ComputeOptions compute, const TrainingRanks& ranks) {
  WeightRanks weights = ranks.weights(compute.dtype);
  if (!config.lora.active()) {
    const at::ScalarType precision = compute.dtype;
    compute.dtype = at::kFloat;
    PolicyTrainee trainee{source.transformer(compute, weights)};
    train_all_weights(trainee.transformer, precision);
    return trainee;
  }
  weights.linears.reset();  // frozen weights stay in the precision of the run
  PolicyTrainee trainee{source.transformer(compute, weights)};
  trainee.lora = initial_lora(config, trainee.transformer->config(), compute.device);
  check_trained_levels(config, trainee.lora);
  set_adapters(trainee.transformer, {{&trainee.lora, 1.0}});
  return trainee;
}

PolicyReference reference_of(const RlConfig& config, const ModelSource& source,
                             const ComputeOptions& compute, const TrainingRanks& ranks,
                             const PolicyTrainee& trainee) {
  if (config.lora.active()) {
    return {.without = &trainee.lora};
  }
  if (config.update.loss.kl_beta == 0) {
    return {};
  }
  WeightRanks weights = ranks.weights(compute.dtype);
  weights.linears.reset();
  if (weights.group.size() > 1) {
    weights.group = weights.group.twin("reference");
  }
  return {.frozen = source.transformer(compute, weights)};
}

PolicyTexts policy_texts(const VideoModel& model, const std::vector<std::string>& prompts,
                         const RolloutConfig& rollout) {
  const at::Device device = model.compute().device;
  std::vector<at::Tensor> rows;
  rows.reserve(prompts.size());
  for (const std::string& prompt : prompts) {
    rows.push_back(model.text_rows(prompt));
  }
  PolicyTexts texts{.prompts = at::stack(rows).to(device),  // [n, rows, D]
                    .negatives = {},
                    .scale = rollout.guidance_scale,
                    .both_gradients = rollout.negative_gradients};
  if (texts.scale > 1 && rollout.guidance_in_update) {
    const at::Tensor& negative = model.text_rows(rollout.negative_prompt);  // [rows, D]
    texts.negatives = at::stack(std::vector<at::Tensor>(prompts.size(), negative)).to(device);
  }
  return texts;
}

void embed_all(VideoModel& model, const std::vector<std::string>& texts, Progress& progress,
               const CancellationToken& cancel) {
  if (model.ranks().leads()) {
    model.load_text_encoder();
  }
  progress.begin("reading prompts", static_cast<int64_t>(texts.size()));
  model.embed(texts, {progress, cancel});
  progress.end();
  model.free_text_encoder();
  model.pad_texts_alike();
}

}  // namespace ospnext
