// ospnext stage gradients: the flow-matching loss of a file's tensors and its gradients.
#include <map>
#include <string>

#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "io/weights.h"
#include "packages/load_adapter.h"
#include "packages/model_fields.h"
#include "parallel/process_place.h"

namespace ospnext {
namespace {

struct GradientsStage {
  std::string input;
  ModelFields model;
  std::string lora;
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
  if (const ProcessPlace place = process_place(); place.size > 1) {
    throw InputError("stage gradients: found " + std::to_string(place.size) +
                     " processes, expected a single process");
  }
}

// What the loss is computed on: C latent channels, T text tokens of width D.
struct FlowSamples {
  at::Tensor latent, noise;  // [B, C, F, H, W] float32
  at::Tensor sigma;          // [B] float32
  at::Tensor text;           // [B, T, D] float32
};

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

// A transformer, and the tensors of it or of its adapter that are trained, by name.
struct Trainee {
  Transformer transformer{nullptr};
  std::map<std::string, at::Tensor> trained = {};

  void train(const std::string& name, const at::Tensor& tensor) {
    trained.emplace(name, tensor.set_requires_grad(true));
  }
};

// Trains all weights, in the arithmetic of `ospnext train`: they stay in float32.
Trainee train_weights(const PartFiles& files, const ComputeOptions& compute) {
  Trainee trainee{load_transformer(
      files, {.device = compute.device, .dtype = at::kFloat, .hif8 = Hif8Use::kNowhere})};
  trainee.transformer->set_numerics({.dtype = compute.dtype, .epilogue = Epilogue::kSeparate});
  for (const auto& item : trainee.transformer->named_parameters()) {
    trainee.train(item.key(), item.value());
  }
  return trainee;
}

// Trains a LoRA beside frozen weights, in the arithmetic of `stage denoise`.
Trainee train_adapter(const LoraChoice& choice, const TransformerConfig& sizes,
                      const PartFiles& files, const ComputeOptions& compute) {
  const Adapter adapter =
      load_adapter(choice.path, sizes, at::TensorOptions(compute.device).dtype(at::kFloat));
  Trainee trainee{load_transformer(files, compute)};
  for (const auto& [linear, change] : adapter.changes) {
    const std::string name = "base_model.model." + linear;  // as PEFT saves it
    trainee.train(name + ".lora_A.weight", change.down);
    trainee.train(name + ".lora_B.weight", change.up);
  }
  set_adapters(trainee.transformer, {{&adapter, choice.strength}});
  return trainee;
}

// The flow-matching loss, a scalar.
at::Tensor loss_of(Transformer& transformer, const FlowSamples& samples) {
  const at::Tensor level = samples.sigma.view({-1, 1, 1, 1, 1});             // [B, 1, 1, 1, 1]
  const at::Tensor noised = at::lerp(samples.latent, samples.noise, level);  // [B, C, F, H, W]
  const at::Tensor velocity = transformer->forward(noised, samples.text, samples.sigma * 1000.0);
  return (velocity - (samples.noise - samples.latent)).square().mean();
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
  const ComputeOptions compute = config.common.compute();
  const PartFiles files = config.model.find().require(ModelPart::kTransformer);
  const TransformerConfig sizes = read_transformer_config(files);
  const FlowSamples samples = read_samples(config.input, sizes, compute.device);
  Trainee trainee = config.lora.empty()
                        ? train_weights(files, compute)
                        : train_adapter(parse_lora_choice(config.lora), sizes, files, compute);
  cancel.check();
  const at::Tensor loss = loss_of(trainee.transformer, samples);
  cancel.check();
  loss.backward();
  cancel.check();
  std::map<std::string, at::Tensor> result{{"loss", loss.reshape({1})}};  // [1]
  for (const auto& [name, tensor] : trainee.trained) {
    const at::Tensor& gradient = tensor.grad();
    result["gradient." + name] = gradient.defined() ? gradient : at::zeros_like(tensor);
  }
  save_safetensors(config.common.output, result);
}

}  // namespace ospnext
