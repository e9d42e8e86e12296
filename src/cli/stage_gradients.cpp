// ospnext stage gradients: the flow-matching loss of a file's tensors and its gradients.
#include <map>
#include <string>

#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "engine/join_world.h"
#include "io/weights.h"
#include "packages/load_adapter.h"
#include "packages/model_fields.h"
#include "train/flow_matching.h"
#include "train/lora_training.h"
#include "train/trained_parameters.h"
#include "train/training_blocks.h"

namespace ospnext {
namespace {

struct GradientsStage {
  std::string input;
  ModelFields model;
  std::string lora;
  TrainingMeshFields mesh;
  CheckpointingFields checkpointing;
  WorldFields world;
  StageOutput common;

  GradientsStage() { common.runs_transformer = true; }

  // Throws InputError for all that needs neither the input nor the model.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("input", input, "safetensors with the stage's tensors");
    model.visit(field);
    field("lora", lora,
          "FILE or FILE:STRENGTH of a LoRA: its tensors are trained instead of the weights");
    mesh.visit(field);
    checkpointing.visit(field);
    world.visit(field);
    common.visit(field);
  }
};

void GradientsStage::check() const {
  common.check();
  if (lora.empty() && common.precision.starts_with("hif8")) {
    throw InputError("`precision`: found " + common.precision +
                     ", expected float32 or bf16: the weights would be codes, which get no "
                     "gradient; with `lora` only the adapter is trained");
  }
  common.compute();
  if (!lora.empty()) {
    parse_lora_choice(lora);
  }
  checkpointing.parse();
  world.check();
}

FlowSamples read_samples(const std::string& file, const TransformerConfig& sizes,
                         at::Device device) {
  StageInput input(file);
  const std::string latents = "B," + std::to_string(sizes.in_dim) + ",F,H,W";
  const auto read = [&](const char* name, const std::string& dimensions) {
    return input.floats(name, dimensions).to(device, at::kFloat);
  };
  const FlowSamples samples{.latent = read("latent", latents),
                            .noise = read("noise", latents),
                            .sigma = read("sigma", "B"),
                            .text = read("text", "B," + std::to_string(sizes.text_len) + "," +
                                                     std::to_string(sizes.text_dim))};
  input.warn_of_rest();
  if (samples.sigma.min().item<double>() < 0 || samples.sigma.max().item<double>() > 1) {
    throw InputError(file + ": sigma: found values outside of 0 to 1");
  }
  const int64_t height = samples.latent.size(3), width = samples.latent.size(4);
  if (height % kPatchRows != 0 || width % kPatchColumns != 0) {
    throw InputError(file + ": latent: found sides " + std::to_string(height) + " x " +
                     std::to_string(width) + ", expected even ones");
  }
  return samples;
}

// The samples begin, begin + 1, ..., begin + count - 1.
FlowSamples part_of(const FlowSamples& all, int64_t begin, int64_t count) {
  const auto own = [&](const at::Tensor& x) { return x.narrow(0, begin, count); };
  return {own(all.latent), own(all.noise), own(all.sigma), TextRows(own(all.text.rows))};
}

// A transformer, and the trained tensors of its adapter, if it is one that is trained.
struct Trainee {
  Transformer transformer{nullptr};
  NamedTensors adapter = {};
};

// Trains all weights, in the arithmetic of `ospnext train`: they stay in float32.
Trainee train_weights(const PartFiles& files, const ComputeOptions& compute,
                      const TrainingRanks& ranks) {
  Trainee trainee{load_transformer(files,
                                   {.device = compute.device,
                                    .dtype = at::kFloat,
                                    .hif8 = Hif8Use::kNowhere,
                                    .offload = compute.offload},
                                   ranks.weights(compute.dtype))};
  train_all_weights(trainee.transformer, compute.dtype);
  return trainee;
}

// Trains a LoRA beside frozen weights, in the arithmetic of `stage denoise`.
Trainee train_lora(const LoraChoice& choice, const TransformerConfig& sizes, const PartFiles& files,
                   const ComputeOptions& compute, const TrainingRanks& ranks) {
  const Adapter adapter =
      load_adapter(choice.path, sizes, at::TensorOptions(compute.device).dtype(at::kFloat));
  check_all_noise_levels(adapter, choice.path.string());
  WeightRanks frozen = ranks.weights(compute.dtype);
  frozen.linears.reset();
  Trainee trainee{load_transformer(files, compute, frozen)};
  trainee.adapter = train_adapter(adapter);
  set_adapters(trainee.transformer, {{&adapter, choice.strength}});
  return trainee;
}

// The loss of all samples and its gradients, whole; on rank 0, others get nothing.
std::map<std::string, at::Tensor> loss_and_gradients(Trainee& trainee, const FlowSamples& samples,
                                                     const Checkpointing& checkpointing,
                                                     const TrainingRanks& ranks,
                                                     const CancellationToken& cancel) {
  Transformer& transformer = trainee.transformer;
  NamedTensors whole = whole_parameters(transformer, "");
  whole.insert(whole.end(), trainee.adapter.begin(), trainee.adapter.end());
  TrainedParameters parameters(whole, ranks, &transformer->sharded_weights());
  TrainingBlocks blocks(transformer, checkpointing);
  Execution run{transformer->numerics()};
  run.blocks = &blocks;
  const TokenTables tables(transformer->config(), token_grid(samples.latent),
                           samples.latent.device(), ranks.work.sequence);
  const int64_t own = samples.latent.size(0) / ranks.work.mesh.data;
  const at::Tensor loss =
      flow_matching_loss(transformer, part_of(samples, ranks.work.video * own, own), tables, run);
  cancel.check();
  loss.backward();
  parameters.average_gradients(/*passes=*/1);
  cancel.check();
  std::map<std::string, at::Tensor> gradients;
  for (const TrainedTensor& one : parameters.tensors()) {
    gradients[one.name] = one.tensor.grad();
  }
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, gradient] : parameters.whole(gradients)) {
    result["gradient." + name] = gradient;
  }
  result["loss"] =
      ranks.all().all_sum(loss.detach().reshape({1}), "loss") / ranks.all().size();  // [1]
  return result;
}

}  // namespace

void run_stage_gradients(const Arguments& arguments, const CancellationToken& cancel) {
  GradientsStage config;
  if (!parse_flags("stage gradients",
                   "Compute a loss and its gradients: latent [B,16,F,H,W], noise alike, sigma "
                   "[B] and text [B,512,D] give loss [1] = mean((v - (noise - latent))^2), v the "
                   "velocity at sigma * noise + (1 - sigma) * latent, and gradient.NAME of each "
                   "weight, or of a LoRA's tensors.",
                   arguments, config)) {
    return;
  }
  config.check();
  ComputeOptions compute = config.common.compute();
  const PartFiles files = config.model.find().require(ModelPart::kTransformer);
  const TransformerConfig sizes = read_transformer_config(files);
  const ProcessPlace place = process_place();
  compute.device = device_of_rank(compute.device, place);
  compute.offload = config.checkpointing.offload_weights;
  const auto world =
      join_world(place, config.world, compute.device, fields_to_json(config), cancel);
  const FlowSamples samples = read_samples(config.input, sizes, compute.device);
  const TrainingRanks ranks = training_ranks(world, config.mesh, sizes, samples.latent.size(0));
  Trainee trainee = config.lora.empty()
                        ? train_weights(files, compute, ranks)
                        : train_lora(parse_lora_choice(config.lora), sizes, files, compute, ranks);
  cancel.check();
  const auto result =
      loss_and_gradients(trainee, samples, config.checkpointing.parse(), ranks, cancel);
  if (ranks.work.leads()) {
    save_safetensors(config.common.output, result);
  }
  world->finish();
}

}  // namespace ospnext
