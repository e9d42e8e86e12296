#include "train/flow_trainees.h"

#include <algorithm>
#include <map>
#include <optional>

#include "core/name_pattern.h"
#include "core/torch/random.h"
#include "io/readers/bounded_json.h"
#include "packages/load_model.h"
#include "train/checkpoint_model.h"
#include "train/deepen.h"
#include "train/model_folder_writer.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// With random weights, in host memory.
Trainees new_trainees(const FlowTrainingConfig& config) {
  Trainees trainees;
  trainees.text_config =
      umt5_config_from_json(read_json_file(config.text_encoder_config), config.text_encoder_config);
  trainees.transformer = Transformer(configured_transformer(config));
  trainees.text_encoder = Umt5Encoder(trainees.text_config);
  trainees.transformer->reset_parameters(
      seeded_generator(config.seed, "transformer initial weights"));
  trainees.text_encoder->reset_parameters(
      seeded_generator(config.seed, "text encoder initial weights"));
  return trainees;
}

// The text encoder, which only a training that encodes captions needs.
void load_text_encoder_of(const FlowTrainingConfig& config, const ModelFiles& files,
                          const ComputeOptions& compute, Trainees& trainees) {
  const PartFiles& part = files.require(ModelPart::kTextEncoder);
  trainees.text_config = read_text_encoder_config(part);
  if (config.encoded_clips.empty()) {
    trainees.text_encoder = load_text_encoder(part, compute);
  }
}

// With the weights of config.initial_model.
Trainees loaded_trainees(const FlowTrainingConfig& config, at::Device device,
                         const WeightRanks& weights) {
  const ModelFiles files = find_model_files({.model = config.initial_model});
  const bool deepens = !config.insert_blocks.empty();
  const ComputeOptions masters{.device = device,
                               .dtype = at::kFloat,
                               .hif8 = Hif8Use::kNowhere,
                               .offload = config.checkpointing.offload_weights && !deepens};
  Trainees trainees{load_transformer(files.require(ModelPart::kTransformer), masters,
                                     deepens ? WeightRanks() : weights)};
  load_text_encoder_of(config, files, masters, trainees);
  if (deepens) {
    trainees.transformer = deepen(trainees.transformer, config.insert_blocks);
  }
  if (!trainees.text_encoder.is_empty()) {
    for (at::Tensor& parameter : trainees.text_encoder->parameters()) {
      parameter.set_requires_grad(true);
    }
  }
  return trainees;
}

// Freezes the weights of both models whose names no pattern fits.
void freeze_others(Trainees& trainees, const std::vector<std::string>& patterns) {
  std::map<std::string, at::Tensor> weights;
  std::vector<std::string> names;
  const auto take = [&](const torch::nn::Module& module, const std::string& prefix) {
    for (const auto& item : module.named_parameters()) {
      weights[prefix + item.key()] = item.value();
      names.push_back(prefix + item.key());
    }
  };
  take(*trainees.transformer, kTransformerPrefix);
  if (!trainees.text_encoder.is_empty()) {
    take(*trainees.text_encoder, kTextEncoderPrefix);
  }
  const std::vector<std::string> trained =
      fitting_names(names, patterns, fits_pattern, "`trained`",
                    "the weights, such as \"transformer.blocks.0.self_attn.q.weight\"");
  for (auto& [name, weight] : weights) {
    weight.set_requires_grad(std::ranges::find(trained, name) != trained.end());
  }
}

// A LoRA beside the frozen weights of config.initial_model, in the precision of the run.
Trainees lora_trainees(const FlowTrainingConfig& config, at::Device device,
                       at::ScalarType precision, const TrainingRanks& ranks) {
  const ModelFiles files = find_model_files({.model = config.initial_model});
  const ComputeOptions frozen{.device = device,
                              .dtype = precision,
                              .hif8 = Hif8Use::kNowhere,
                              .offload = config.checkpointing.offload_weights};
  WeightRanks weights = ranks.weights(precision);
  weights.linears.reset();  // ranks keep their parts in the precision of the run, too
  Trainees trainees{load_transformer(files.require(ModelPart::kTransformer), frozen, weights)};
  load_text_encoder_of(config, files, frozen, trainees);
  trainees.transformer->set_numerics(training_numerics(precision));
  trainees.lora = initial_adapter(config.lora, trainees.transformer->config(), config.seed, device);
  check_all_noise_levels(trainees.lora, "`initial_lora`");
  set_adapters(trainees.transformer, {{&trainees.lora, 1.0}});
  return trainees;
}

}  // namespace

TrainedParameters Trainees::parameters(const TrainingRanks& ranks) {
  if (!lora.changes.empty()) {
    return lora_parameters(lora, transformer, ranks);
  }
  NamedTensors whole = whole_parameters(transformer, kTransformerPrefix);
  if (!text_encoder.is_empty()) {
    const NamedTensors more = named_parameters(*text_encoder, kTextEncoderPrefix);
    whole.insert(whole.end(), more.begin(), more.end());
  }
  TrainedParameters weights(whole, ranks, &transformer->sharded_weights(), kTransformerPrefix);
  weights.set_model(model_of_weights(transformer->config(), text_config));
  return weights;
}

TransformerConfig configured_transformer(const FlowTrainingConfig& config) {
  return config.initial_model.empty()
             ? transformer_config_from_json(read_json_file(config.transformer_config),
                                            config.transformer_config)
             : read_transformer_config(find_model_files({.model = config.initial_model})
                                           .require(ModelPart::kTransformer));
}

Trainees initial_trainees(const FlowTrainingConfig& config, at::Device device,
                          at::ScalarType precision, const TrainingRanks& ranks) {
  if (config.lora.active()) {
    return lora_trainees(config, device, precision, ranks);
  }
  const WeightRanks weights = ranks.weights(precision);
  Trainees trainees = config.initial_model.empty() ? new_trainees(config)
                                                   : loaded_trainees(config, device, weights);
  if (trainees.transformer->sharded_weights().size() == 0) {
    trainees.transformer->shard_blocks(
        weights.group, weights.linears,
        {.device = device, .offload = config.checkpointing.offload_weights});
  }
  trainees.transformer->to(device);
  train_all_weights(trainees.transformer, precision);
  if (!trainees.text_encoder.is_empty()) {
    trainees.text_encoder->to(device);
    trainees.text_encoder->set_compute_dtype(precision);
  }
  if (!config.trained.empty()) {
    freeze_others(trainees, config.trained);
  }
  return trainees;
}

bool writes_whole_model(const FlowTrainingConfig& config) {
  return !config.lora.active() && config.encoded_clips.empty();
}

void write_result(const FlowTrainingConfig& config) {
  std::optional<ModelFiles> base =
      config.initial_model.empty()
          ? std::nullopt
          : std::make_optional(find_model_files({.model = config.initial_model}));
  if (!config.encoded_clips.empty()) {
    base->parts[static_cast<size_t>(ModelPart::kTextEncoder)].files.reset();
  }
  const fs::path folder = write_averages(config.output, base ? &*base : nullptr);
  if (!writes_whole_model(config)) {
    return;
  }
  fs::create_directories(folder / "vae");
  fs::copy(config.vae, folder / "vae",
           fs::copy_options::overwrite_existing | fs::copy_options::recursive);
  write_model_index(folder, config.tokenizer, config.generation_config);
}

}  // namespace ospnext
