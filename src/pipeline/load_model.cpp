#include "pipeline/load_model.h"

#include <set>

#include "core/error.h"
#include "core/fields.h"
#include "core/log.h"
#include "core/torch/device.h"
#include "io/readers/bounded_json.h"
#include "io/readers/bounded_yaml.h"
#include "io/readers/key_layouts.h"
#include "io/weights.h"

namespace ospnext {
namespace {

// Loads `module` and readies it for inference.
void fill(torch::nn::Module& module, const Checkpoint& checkpoint, const KeyMap& keys,
          const Loras& loras = {}) {
  const LoadReport report = load_weights(module, checkpoint, keys, loras);
  if (!report.ignored.empty()) {
    warn(checkpoint.path() + ": " + std::to_string(report.ignored.size()) +
         " tensor(s) belong to nothing and are ignored, the first is " +
         quoted(report.ignored.front()));
  }
  module.eval();
  for (at::Tensor& parameter : module.parameters()) {
    parameter.set_requires_grad(false);
  }
}

// A function from name to shape, empty for a name that is not there.
auto lookup(TensorShapes shapes) {
  return [shapes = std::move(shapes)](const std::string& name) {
    const auto found = shapes.find(name);
    return found == shapes.end() ? std::vector<int64_t>{} : found->second;
  };
}

// Throws when the config.json names other sizes than the weights have, before anything is made of them.
// `unseen` are the fields that shapes do not tell.
template <class Config>
void check_sizes(const Config& config, const Config& inferred, const std::set<std::string>& unseen,
                 const PartFiles& files) {
  const nlohmann::json found = fields_to_json(config);
  const nlohmann::json held = fields_to_json(inferred);
  for (const auto& [name, value] : found.items()) {
    if (!unseen.contains(name) && value != held[name]) {
      throw InputError(files.config->string() + ": " + name + ": found " + value.dump() + ", but " +
                       files.weights.string() + " holds " + held[name].dump());
    }
  }
}

// config.json, or the section model_config of OSP-Next's YAML.
nlohmann::json read_transformer_json(const std::filesystem::path& file) {
  if (file.extension() != ".yaml" && file.extension() != ".yml") {
    return read_json_file(file);
  }
  nlohmann::json yaml = read_yaml_file(file);
  const bool has_section = yaml.is_object() && yaml.contains("model_config");
  return has_section ? nlohmann::json(yaml["model_config"]) : yaml;
}

}  // namespace

ComputeOptions parse_compute(const std::string& device, const std::string& precision) {
  ComputeOptions compute;
  compute.device = parse_device(device != "auto"              ? device
                                : torch::cuda::is_available() ? "cuda"
                                                              : "cpu");
  if (precision == "auto") {
    compute.dtype = compute.device.is_cuda() ? at::kBFloat16 : at::kFloat;
  } else {
    compute.dtype = parse_precision(precision);
  }
  if (compute.device.is_cuda() && compute.dtype == at::kFloat) {
    at::globalContext().setAllowTF32CuBLAS(false);
    at::globalContext().setAllowTF32CuDNN(false);
  }
  return compute;
}

TransformerConfig read_transformer_config(const PartFiles& files) {
  const Checkpoint checkpoint = open_checkpoint(files.weights);
  const auto shapes = renamed_shapes(checkpoint, transformer_keys(checkpoint));
  if (!files.config) {
    return infer_transformer_config(shapes, checkpoint.path());
  }
  return resolve_transformer_config(read_transformer_json(*files.config), files.config->string(),
                                    shapes, checkpoint.path());
}

VaeConfig read_vae_config(const PartFiles& files) {
  const Checkpoint checkpoint = open_checkpoint(files.weights);
  const auto shapes = renamed_shapes(checkpoint, vae_keys(checkpoint));
  VaeConfig inferred;
  try {
    inferred = infer_vae_config(lookup(shapes));
  } catch (const InputError& error) {
    throw InputError(checkpoint.path() + ": " + error.what());
  }
  if (!files.config) {
    return inferred;
  }
  const auto config = vae_config_from_json(read_json_file(*files.config), files.config->string());
  check_sizes(config, inferred, {"latents_mean", "latents_std"}, files);
  return config;
}

Umt5Config read_text_encoder_config(const PartFiles& files) {
  const Checkpoint checkpoint = open_checkpoint(files.weights);
  const auto inferred = infer_umt5_config(lookup(renamed_shapes(checkpoint, umt5_keys(checkpoint))),
                                          checkpoint.path());
  if (!files.config) {
    return inferred;
  }
  const auto config = umt5_config_from_json(read_json_file(*files.config), files.config->string());
  check_sizes(config, inferred, {"layer_norm_epsilon", "relative_attention_max_distance"}, files);
  return config;
}

Loras open_loras(const PartFiles& files) {
  Loras loras(files.loras);
  if (!files.loras.empty()) {
    const Checkpoint checkpoint = open_checkpoint(files.weights);
    loras.check_fits(renamed_shapes(checkpoint, transformer_keys(checkpoint)));
  }
  return loras;
}

Transformer load_transformer(const PartFiles& files, const ComputeOptions& compute) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = open_checkpoint(files.weights);
  const Loras loras = open_loras(files);
  Transformer transformer(read_transformer_config(files),
                          at::TensorOptions().device(compute.device).dtype(compute.dtype));
  transformer->set_compute_dtype(compute.dtype);
  fill(*transformer, checkpoint, transformer_keys(checkpoint), loras);
  return transformer;
}

Vae load_vae(const PartFiles& files, const ComputeOptions& compute) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = open_checkpoint(files.weights);
  Vae vae(read_vae_config(files));
  vae->to(compute.device, compute.dtype);
  fill(*vae, checkpoint, vae_keys(checkpoint));
  if (compute.device.is_cuda()) {
    vae->to_channels_last();
  }
  return vae;
}

Umt5Encoder load_text_encoder(const PartFiles& files, const ComputeOptions& compute) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = open_checkpoint(files.weights);
  Umt5Encoder encoder(read_text_encoder_config(files),
                      at::TensorOptions().device(compute.device).dtype(compute.dtype));
  fill(*encoder, checkpoint, umt5_keys(checkpoint));
  return encoder;
}

Tokenizer load_tokenizer(const PartFiles& files) {
  return Tokenizer(read_tokenizer_bytes(files.weights), files.weights.string());
}

int64_t weight_bytes(const PartFiles& files, at::ScalarType dtype) {
  const Checkpoint checkpoint = open_checkpoint(files.weights);
  int64_t elements = 0;
  for (const auto& [name, record] : checkpoint.tensors()) {
    elements += record.element_count();
  }
  return elements * static_cast<int64_t>(at::elementSize(dtype));
}

}  // namespace ospnext
