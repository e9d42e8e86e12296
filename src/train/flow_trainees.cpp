#include "train/flow_trainees.h"

#include "core/torch/random.h"
#include "io/readers/bounded_json.h"
#include "packages/load_model.h"
#include "train/deepen.h"
#include "train/model_folder_writer.h"
#include "train/trained_parameters.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// With random weights.
Trainees new_trainees(const FlowTrainingConfig& config, at::Device device) {
  Trainees trainees{Transformer(configured_transformer(config)),
                    Umt5Encoder(umt5_config_from_json(read_json_file(config.text_encoder_config),
                                                      config.text_encoder_config))};
  trainees.transformer->reset_parameters(
      seeded_generator(config.seed, "transformer initial weights"));
  trainees.text_encoder->reset_parameters(
      seeded_generator(config.seed, "text encoder initial weights"));
  trainees.transformer->to(device);
  trainees.text_encoder->to(device);
  return trainees;
}

// With the weights of config.initial_model.
Trainees loaded_trainees(const FlowTrainingConfig& config, at::Device device,
                         const WeightRanks& weights) {
  const ModelFiles files = find_model_files({.model = config.initial_model});
  const ComputeOptions masters{.device = device, .dtype = at::kFloat, .hif8 = Hif8Use::kNowhere};
  const bool deepens = !config.insert_blocks.empty();
  Trainees trainees{load_transformer(files.require(ModelPart::kTransformer), masters,
                                     deepens ? WeightRanks() : weights),
                    load_text_encoder(files.require(ModelPart::kTextEncoder), masters)};
  if (deepens) {
    trainees.transformer = deepen(trainees.transformer, config.insert_blocks);
  }
  for (at::Tensor& parameter : trainees.text_encoder->parameters()) {
    parameter.set_requires_grad(true);
  }
  return trainees;
}

// Gives the parameters of `module` the values of `tensors`, whose names have `prefix` in front.
void fill_from(torch::nn::Module& module, const std::string& prefix,
               const std::map<std::string, at::Tensor>& tensors) {
  const torch::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    item.value().copy_(tensors.at(prefix + item.key()));
  }
}

}  // namespace

NamedTensors Trainees::whole_parameters() {
  NamedTensors named = ospnext::whole_parameters(transformer, kTransformerPrefix);
  const NamedTensors more = named_parameters(*text_encoder, kTextEncoderPrefix);
  named.insert(named.end(), more.begin(), more.end());
  return named;
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
  const WeightRanks weights = ranks.weights(precision);
  Trainees trainees = config.initial_model.empty() ? new_trainees(config, device)
                                                   : loaded_trainees(config, device, weights);
  if (trainees.transformer->sharded_weights().size() == 0) {
    trainees.transformer->shard_blocks(weights.group, weights.linears);
  }
  train_all_weights(trainees.transformer, precision);
  trainees.text_encoder->set_compute_dtype(precision);
  return trainees;
}

void write_model(const FlowTrainingConfig& config, const TransformerConfig& transformer_config,
                 const Umt5Config& text_encoder_config,
                 const std::map<std::string, at::Tensor>& averages) {
  const fs::path folder = fs::path(config.output) / "model";
  Transformer transformer(transformer_config);
  fill_from(*transformer, kTransformerPrefix, averages);
  write_transformer_folder(folder / "transformer", transformer, transformer_config);
  Umt5Encoder text_encoder(text_encoder_config);
  fill_from(*text_encoder, kTextEncoderPrefix, averages);
  write_text_encoder_folder(folder / "text_encoder", text_encoder, text_encoder_config);
  fs::create_directories(folder / "vae");
  fs::copy(config.vae, folder / "vae",
           fs::copy_options::overwrite_existing | fs::copy_options::recursive);
  write_model_index(folder, config.tokenizer, config.generation_config);
}

}  // namespace ospnext
