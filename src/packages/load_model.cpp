#include "packages/load_model.h"

#include <set>

#include "core/error.h"
#include "core/extension.h"
#include "core/fields.h"
#include "core/log.h"
#include "core/number_check.h"
#include "core/torch/device.h"
#include "io/readers/bounded_json.h"
#include "io/readers/bounded_yaml.h"
#include "io/readers/key_layouts.h"
#include "io/weights.h"
#include "models/transformer_hif8.h"
#include "packages/load_adapter.h"
#include "packages/part_layouts.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"
#include "quant/hif8_weights.h"

namespace ospnext {
namespace {

void make_ready(torch::nn::Module& module) {
  module.eval();
  for (at::Tensor& parameter : module.parameters()) {
    parameter.set_requires_grad(false);
  }
}

// Loads the weights of `module` into `targets` and prepares the module for inference.
void fill(torch::nn::Module& module, const WeightTargets& targets, const Checkpoint& checkpoint,
          const std::map<std::string, WeightSource>& sources, const Loras& loras = {},
          const RowChange& change = {}) {
  warn_of_unlisted(checkpoint);
  const LoadReport report = load_weights(targets, checkpoint, sources, loras, change);
  if (!report.ignored.empty()) {
    warn(checkpoint.path() + ": " + std::to_string(report.ignored.size()) +
         " tensor(s) belong to nothing and are ignored, the first is " +
         quoted(report.ignored.front()));
  }
  make_ready(module);
}

// Throws when sizes in config.json differ from those of the weights. Called before a module is
// allocated. `unseen`: fields that cannot be inferred from shapes.
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
  if (const std::string extension = extension_of(file);
      extension != ".yaml" && extension != ".yml") {
    return read_json_file(file);
  }
  nlohmann::json yaml = read_yaml_file(file);
  const bool has_section = yaml.is_object() && yaml.contains("model_config");
  return has_section ? nlohmann::json(yaml["model_config"]) : yaml;
}

// The values of --precision with which all linears and attention round to HiF8.
struct Hif8Precision {
  const char* name;
  Hif8Use use;
  hif8::Products products;
};
constexpr Hif8Precision kHif8Precisions[] = {
    {"hif8", Hif8Use::kTensorCores, hif8::Products::kTensorCores},
    {"hif8-p8", Hif8Use::kTensorCoresP8, hif8::Products::kTensorCoresP8},
    {"hif8-simulated", Hif8Use::kSimulated, hif8::Products::kSimulated},
};

Hif8Rounding rounding_of(const TransformerConfig& config, const ComputeOptions& compute,
                         const std::string& path) {
  if (compute.hif8 == Hif8Use::kNowhere) {
    if (!config.quant.empty() || !config.quant_attn.empty()) {
      warn(path + ": its configuration asks for HiF8 rounding, which training leaves out");
    }
    return {};
  }
  const auto everywhere = products_everywhere(compute.hif8);
  const Hif8Rounding rounding{.linears = everywhere || !config.quant.empty(),
                              .attention = everywhere || !config.quant_attn.empty(),
                              .amax_to = config.scale_max_forward,
                              .products = everywhere.value_or(hif8::Products::kSimulated)};
  if (rounding.any()) {
    check_range<double>(path + ": scale_max_forward", rounding.amax_to, 1,
                        rounding.tensor_cores() ? hif8::kE4m3Amax : 32768);
  }
  constexpr int64_t kFp8Multiple = 16;  // FP8 matrix products need multiples of this in both sizes
  if (rounding.tensor_cores() &&
      (config.dim % kFp8Multiple != 0 || config.ffn_dim % kFp8Multiple != 0)) {
    throw InputError(path + ": found dim " + std::to_string(config.dim) + " and ffn_dim " +
                     std::to_string(config.ffn_dim) + ", expected multiples of " +
                     std::to_string(kFp8Multiple) + " for `precision` " + compute.precision_name());
  }
  return rounding;
}

// Weight name -> scale, for all weights that are rounded to HiF8. Each rank reads only its own
// rows; an all-reduce gives the largest magnitudes.
std::map<std::string, float> hif8_scales_of(const std::map<std::string, WeightSource>& sources,
                                            const WeightTargets& targets,
                                            const Checkpoint& checkpoint, const Loras& loras,
                                            double amax_to, const WeightRanks& ranks) {
  std::map<std::string, float> scales;
  std::vector<std::string> measured;
  std::vector<float> amax;
  for (const auto& [name, source] : sources) {
    if (!hif8::is_rounded_weight(name)) {
      continue;
    }
    if (const auto stored = hif8::stored_scale(source, loras)) {
      scales[name] = *stored;
      continue;
    }
    const WeightTarget& target = targets.at(name);
    measured.push_back(name);
    amax.push_back(hif8::weight_amax(source, target.rows, checkpoint, loras, target.device));
  }
  if (measured.empty()) {
    return scales;
  }
  ranks.meet();
  const at::Device device = targets.begin()->second.device;
  const at::Tensor found =
      hif8::scale_to(amax_to, ranks.group.all_max(at::tensor(amax).to(device), "amax")).cpu();
  for (size_t i = 0; i < measured.size(); ++i) {
    scales[measured[i]] = found[static_cast<int64_t>(i)].item<float>();
  }
  return scales;
}

// Rounds rows · scale to HiF8 and returns the values of the codes, in float32, or as an fp8 operand
// if `tensor_cores`.
at::Tensor rounded_rows(const at::Tensor& rows, float scale, bool tensor_cores) {
  const at::Tensor floats = rows.to(at::kFloat);
  const at::Tensor values = hif8::code_values(floats, at::full({}, scale, floats.options()));
  return tensor_cores ? hif8::fp8_weight(values) : values;
}

// A transformer without values, and the targets of its weights.
struct EmptyTransformer {
  Transformer transformer;
  WeightTargets targets;
};

// With `eight_bits`, weights that are rounded to HiF8 are allocated with one byte per element.
Transformer allocate_transformer(const TransformerConfig& config, const ComputeOptions& compute,
                                 bool eight_bits, TransformerImpl::Blocks blocks) {
  const auto options = at::TensorOptions().device(compute.device).dtype(compute.dtype);
  if (!eight_bits) {
    return Transformer(config, options, blocks);
  }
  Transformer transformer(config, options.dtype(at::kFloat8_e4m3fn), blocks);
  for (auto& item : transformer->named_parameters()) {
    at::Tensor& parameter = item.value();
    if (parameter.scalar_type() == at::kFloat8_e4m3fn && !hif8::is_rounded_weight(item.key())) {
      parameter.set_data(at::empty_like(parameter, parameter.options().dtype(compute.dtype)));
    }
  }
  return transformer;
}

EmptyTransformer empty_transformer(const TransformerConfig& config, const ComputeOptions& compute,
                                   bool eight_bits, const WeightRanks& ranks) {
  using Blocks = TransformerImpl::Blocks;
  Transformer transformer = allocate_transformer(
      config, compute, eight_bits,
      ranks.group.alone() && !compute.offload ? Blocks::kWhole : Blocks::kWithoutMemory);
  transformer->set_numerics({.dtype = compute.dtype});
  const auto shards = transformer->shard_blocks(
      ranks.group, ranks.linears, {.device = compute.device, .offload = compute.offload});
  WeightTargets targets = weight_targets(*transformer);
  for (const auto& [name, shard] : shards) {
    const auto write = [shard](int64_t first_row, const at::Tensor& rows) {
      return shard.write(first_row, rows);
    };
    targets.insert_or_assign(
        name,
        WeightTarget{shard.shape, compute.device, {shard.first_row(), shard.num_rows()}, write});
  }
  return {transformer, targets};
}

bool is_live(LoraMode mode, const Hif8Rounding& rounding, const Loras& loras) {
  return mode == LoraMode::kLive ||
         (mode == LoraMode::kAuto && (rounding.linears || loras.need_the_noise_level()));
}

}  // namespace

std::optional<hif8::Products> products_everywhere(Hif8Use use) {
  for (const Hif8Precision& precision : kHif8Precisions) {
    if (precision.use == use) {
      return precision.products;
    }
  }
  return std::nullopt;
}

std::string ComputeOptions::precision_name() const {
  for (const Hif8Precision& precision : kHif8Precisions) {
    if (precision.use == hif8) {
      return precision.name;
    }
  }
  return dtype == at::kFloat ? "float32" : "bf16";
}

ComputeOptions parse_transformer_compute(const std::string& device, const std::string& precision) {
  for (const Hif8Precision& known : kHif8Precisions) {
    if (precision == known.name) {
      ComputeOptions compute = parse_compute(device, "auto");
      compute.hif8 = known.use;
      if (known.products != hif8::Products::kSimulated &&
          !hif8::has_fp8_tensor_cores(compute.device)) {
        throw InputError("`precision`: found " + precision + " on " + compute.device.str() +
                         ", expected a CUDA GPU with FP8 tensor cores (compute capability 8.9 or "
                         "higher); hif8-simulated runs anywhere");
      }
      return compute;
    }
  }
  if (precision != "auto" && !precision_dtype(precision)) {
    throw InputError("`precision`: found \"" + precision +
                     "\", expected float32, bf16, hif8, hif8-p8 or hif8-simulated");
  }
  return parse_compute(device, precision);
}

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
  return compute;
}

void warn_of_unlisted(const Checkpoint& checkpoint) {
  if (const auto& names = checkpoint.unlisted(); !names.empty()) {
    warn(checkpoint.path() + ": its shards hold " + std::to_string(names.size()) +
         " tensor(s) that it does not name, the first is " + quoted(names.front()) +
         ": they are used all the same");
  }
}

TransformerConfig read_transformer_config(const PartFiles& files) {
  const Checkpoint checkpoint = open_part(files);
  const auto shapes = renamed_shapes(checkpoint, transformer_keys(checkpoint));
  if (!files.config) {
    return infer_transformer_config(shapes, checkpoint.path());
  }
  return resolve_transformer_config(read_transformer_json(*files.config), files.config->string(),
                                    shapes, checkpoint.path());
}

VaeConfig read_vae_config(const PartFiles& files) {
  const Checkpoint checkpoint = open_part(files);
  const auto shapes = renamed_shapes(checkpoint, vae_keys(checkpoint));
  VaeConfig inferred;
  try {
    inferred = infer_vae_config(shapes);
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
  const Checkpoint checkpoint = open_part(files);
  const auto inferred =
      infer_umt5_config(renamed_shapes(checkpoint, umt5_keys(checkpoint)), checkpoint.path());
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
    const Checkpoint checkpoint = open_part(files);
    loras.check_fits(renamed_shapes(checkpoint, transformer_keys(checkpoint)));
  }
  return loras;
}

Transformer load_transformer(const PartFiles& files, const ComputeOptions& compute,
                             const WeightRanks& ranks) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = open_part(files);
  Loras loras = open_loras(files);
  loras.warn_of_remarks();
  const TransformerConfig config = read_transformer_config(files);
  const Hif8Rounding rounding = rounding_of(config, compute, checkpoint.path());
  const std::vector<LowRankChange> live = is_live(files.lora_mode, rounding, loras)
                                              ? loras.take_low_rank()
                                              : std::vector<LowRankChange>();
  auto [transformer, targets] = empty_transformer(config, compute, rounding.tensor_cores(), ranks);
  const auto sources = hif8::decoded_sources(checkpoint, transformer_keys(checkpoint));
  std::map<std::string, float> scales;
  if (rounding.linears) {
    check_complete(sources, part_shapes(config), checkpoint.path());
    scales = hif8_scales_of(sources, targets, checkpoint, loras, rounding.amax_to, ranks);
  }
  fill(*transformer, targets, checkpoint, sources, loras,
       [&](const std::string& name, const at::Tensor& rows) {
         const auto scale = scales.find(name);
         return scale == scales.end() ? rows
                                      : rounded_rows(rows, scale->second, rounding.tensor_cores());
       });
  round_to_hif8(transformer, rounding, scales);
  const Adapter adapter =
      make_adapter(live, at::TensorOptions().device(compute.device).dtype(compute.dtype));
  set_adapters(transformer, {{&adapter, 1.0}});
  return transformer;
}

Transformer make_transformer(const TransformerConfig& config, const ComputeOptions& compute,
                             const std::string& origin, const WeightFill& fill,
                             const WeightRanks& ranks) {
  const torch::NoGradGuard no_grad;
  const Hif8Rounding rounding = rounding_of(config, compute, origin);
  auto [transformer, targets] = empty_transformer(config, compute, rounding.tensor_cores(), ranks);
  std::map<std::string, float> scales;
  for (auto& item : transformer->named_parameters()) {
    const std::string& name = item.key();
    const at::Tensor& parameter = item.value();
    const bool rounded = rounding.linears && hif8::is_rounded_weight(name);
    at::Tensor weight = at::empty(
        parameter.sizes(), rounded ? parameter.options().dtype(at::kFloat) : parameter.options());
    fill(name, weight);
    if (rounded) {
      scales[name] = hif8::scale_to(rounding.amax_to, hif8::amax_of_tensor(weight)).item<float>();
      weight = rounded_rows(weight, scales[name], rounding.tensor_cores());
    }
    targets.at(name).write(0, weight);
  }
  round_to_hif8(transformer, rounding, scales);
  make_ready(*transformer);
  return transformer;
}

Vae load_vae(const PartFiles& files, const ComputeOptions& compute) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = open_part(files);
  Vae vae(read_vae_config(files));
  vae->to(compute.device, compute.dtype);
  fill(*vae, weight_targets(*vae), checkpoint, weight_sources(checkpoint, vae_keys(checkpoint)));
  if (compute.device.is_cuda()) {
    vae->to_channels_last();
  }
  return vae;
}

Umt5Encoder load_text_encoder(const PartFiles& files, const ComputeOptions& compute) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = open_part(files);
  Umt5Encoder encoder(read_text_encoder_config(files),
                      at::TensorOptions().device(compute.device).dtype(compute.dtype));
  fill(*encoder, weight_targets(*encoder), checkpoint,
       weight_sources(checkpoint, umt5_keys(checkpoint)));
  return encoder;
}

Tokenizer load_tokenizer(const PartFiles& files) {
  return Tokenizer(read_tokenizer_bytes(files.weights), files.weights.string());
}

int64_t weight_bytes(const PartFiles& files, at::ScalarType dtype) {
  const Checkpoint checkpoint = open_part(files);
  int64_t elements = 0;
  for (const auto& [name, record] : checkpoint.tensors()) {
    elements += record.dtype == DType::kOther ? 0 : record.element_count();
  }
  return elements * static_cast<int64_t>(at::elementSize(dtype));
}

}  // namespace ospnext
