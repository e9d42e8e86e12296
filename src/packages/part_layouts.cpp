#include "packages/part_layouts.h"

#include <array>
#include <vector>

#include "core/choice.h"
#include "core/error.h"
#include "core/fields.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr std::array kLayoutNames{
    std::pair{"wan", ModelFamily::kWanAi},
    std::pair{"diffusers", ModelFamily::kDiffusers},
    std::pair{"osp-next", ModelFamily::kOspNext},
    std::pair{"single-file", ModelFamily::kParts},
};

constexpr const char* kDiffusersClass = "WanTransformer3DModel";
constexpr const char* kDiffusersVersion = "0.30.0";  // the oldest version in Wan's own files

// "name value" for each field that differs between `config` and `found`.
template <class Config>
std::vector<std::string> lost_fields(const Config& config, const Config& found) {
  const json wanted = fields_to_json(config);
  const json read = fields_to_json(found);
  std::vector<std::string> lost;
  for (const auto& [name, value] : wanted.items()) {
    if (read[name] != value) {
      lost.push_back(name + " " + value.dump());
    }
  }
  return lost;
}

// Throws InputError if `found`, the configuration that a reader finds in the files, is not
// `config`.
template <class Config>
void check_survives(const Config& config, const Config& found, ModelFamily layout,
                    const std::string& part) {
  if (const auto lost = lost_fields(config, found); !lost.empty()) {
    throw InputError("`layout` " + std::string(layout_name(layout)) +
                     ": its files cannot say the " + part + "'s " + list_text(lost));
  }
}

// Sets fields that have no effect in this model to their defaults, so that they do not count as
// lost.
TransformerConfig meaningful(TransformerConfig config) {
  const TransformerConfig defaults;
  if (config.skiparse_type() == SkiparseType::kFull) {
    config.sparse_ratio = defaults.sparse_ratio;
    config.num_full_blocks = defaults.num_full_blocks;
  }
  if (config.quant.empty() && config.quant_attn.empty()) {
    config.scale_max_forward = defaults.scale_max_forward;
    config.scale_max_backward = defaults.scale_max_backward;
  }
  return config;
}

TensorShapes shapes_of(const torch::nn::Module& module) {
  TensorShapes shapes;
  for (const auto& entry : module.named_parameters()) {
    shapes[entry.key()] = entry.value().sizes().vec();
  }
  return shapes;
}

json wan_config(const TransformerConfig& config) {
  return {{"_class_name", "WanModel"},
          {"_diffusers_version", kDiffusersVersion},
          {"dim", config.dim},
          {"eps", config.eps},
          {"ffn_dim", config.ffn_dim},
          {"freq_dim", config.freq_dim},
          {"in_dim", config.in_dim},
          {"model_type", "t2v"},
          {"num_heads", config.num_heads},
          {"num_layers", config.num_layers},
          {"out_dim", config.out_dim},
          {"text_len", config.text_len}};
}

json diffusers_config(const TransformerConfig& config) {
  return {{"_class_name", kDiffusersClass},
          {"_diffusers_version", kDiffusersVersion},
          {"added_kv_proj_dim", nullptr},
          {"attention_head_dim", config.head_dim()},
          {"cross_attn_norm", true},
          {"eps", config.eps},
          {"ffn_dim", config.ffn_dim},
          {"freq_dim", config.freq_dim},
          {"image_dim", nullptr},
          {"in_channels", config.in_dim},
          {"num_attention_heads", config.num_heads},
          {"num_layers", config.num_layers},
          {"out_channels", config.out_dim},
          {"patch_size", {1, kPatchRows, kPatchColumns}},
          {"qk_norm", "rms_norm_across_heads"},
          {"rope_max_seq_len", 1024},
          {"text_dim", config.text_dim}};
}

json osp_next_config(const TransformerConfig& config) {
  json all = fields_to_json(config);
  all["_class_name"] = "OSPNextModel";
  all["model_type"] = "t2v";
  return all;
}

}  // namespace

ModelFamily parse_layout(const std::string& text, const std::string& flag) {
  return one_of(flag, text, kLayoutNames);
}

const char* layout_name(ModelFamily layout) {
  return kLayoutNames[static_cast<size_t>(layout)].first;  // in the order of the enum
}

PartPlace part_place(ModelPart part, ModelFamily layout) {
  if (layout == ModelFamily::kDiffusers) {
    switch (part) {
      case ModelPart::kTransformer:
        return {"transformer", "diffusion_pytorch_model", true};
      case ModelPart::kTextEncoder:
        return {"text_encoder", "model", true};
      default:
        return {"vae", "diffusion_pytorch_model", true};
    }
  }
  const bool single = layout == ModelFamily::kParts;
  switch (part) {
    case ModelPart::kTransformer:
      return {"", single ? "transformer" : "diffusion_pytorch_model", !single};
    case ModelPart::kTextEncoder:
      return {"", single ? "umt5_xxl" : "models_t5_umt5-xxl-enc-bf16", false};
    default:
      return {"", single ? "wan_2.1_vae" : "Wan2.1_VAE", false};
  }
}

const char* tokenizer_place(ModelFamily layout) {
  switch (layout) {
    case ModelFamily::kDiffusers:
      return "tokenizer/spiece.model";
    case ModelFamily::kParts:
      return "spiece.model";
    default:
      return "google/umt5-xxl/spiece.model";
  }
}

KeyMap layout_keys(ModelPart part, ModelFamily layout, const std::vector<std::string>& names,
                   const std::optional<json>& config) {
  const bool diffusers = layout == ModelFamily::kDiffusers;
  if (part == ModelPart::kTransformer && diffusers && (*config)["_class_name"] == kDiffusersClass) {
    return diffusers_transformer_key;
  }
  if (part == ModelPart::kTextEncoder && (diffusers || layout == ModelFamily::kParts)) {
    return hugging_face_umt5_key;
  }
  if (part == ModelPart::kVae && diffusers) {
    return diffusers_vae_keys(names);
  }
  return [](const std::string& name) { return name; };
}

json tokenizer_config() {
  return {{"tokenizer_class", "T5Tokenizer"},
          {"add_prefix_space", true},
          {"legacy", true},
          {"extra_ids", 300}};
}

json model_index(const std::string& transformer_class) {
  const bool wan = transformer_class == kDiffusersClass;
  json index = {{"_class_name", wan ? "WanPipeline" : "OSPNextPipeline"},
                {"transformer", {wan ? "diffusers" : "ospnext", transformer_class}},
                {"vae", {"diffusers", "AutoencoderKLWan"}},
                {"text_encoder", {"transformers", "UMT5EncoderModel"}},
                {"tokenizer", {"transformers", "T5TokenizerFast"}}};
  if (wan) {
    index["_diffusers_version"] = kDiffusersVersion;
    index["scheduler"] = {"diffusers", "UniPCMultistepScheduler"};
  }
  return index;
}

json scheduler_config(const TransformerConfig& config) {
  return {{"_class_name", "UniPCMultistepScheduler"},
          {"_diffusers_version", kDiffusersVersion},
          {"flow_shift", config.dim >= 5120 ? 5.0 : 3.0},  // as Wan publishes for 14B and 1.3B
          {"num_train_timesteps", 1000},
          {"prediction_type", "flow_prediction"},
          {"use_flow_sigmas", true}};
}

std::optional<json> layout_config(const TransformerConfig& config, ModelFamily layout,
                                  const TensorShapes& shapes) {
  const auto reading = [&](const json& written) {
    return meaningful(resolve_transformer_config(written, "config", shapes, "transformer"));
  };
  std::optional<json> written;
  switch (layout) {
    case ModelFamily::kWanAi:
      written = wan_config(config);
      break;
    case ModelFamily::kDiffusers:
      written = diffusers_config(config);
      if (!lost_fields(meaningful(config), reading(*written)).empty()) {
        written = osp_next_config(config);
      }
      break;
    case ModelFamily::kOspNext:
      written = osp_next_config(config);
      break;
    case ModelFamily::kParts:
      break;
  }
  check_survives(meaningful(config), reading(written.value_or(json::object())), layout,
                 "transformer");
  return written;
}

std::optional<json> layout_config(const VaeConfig& config, ModelFamily layout,
                                  const TensorShapes& shapes) {
  if (layout != ModelFamily::kDiffusers) {
    check_survives(config, infer_vae_config(shapes), layout, "VAE");
    return std::nullopt;
  }
  json written = fields_to_json(config);
  written["_class_name"] = "AutoencoderKLWan";
  written["_diffusers_version"] = kDiffusersVersion;
  return written;
}

std::optional<json> layout_config(const Umt5Config& config, ModelFamily layout,
                                  const TensorShapes& shapes) {
  if (layout != ModelFamily::kDiffusers) {
    check_survives(config, infer_umt5_config(shapes, "text encoder"), layout, "text encoder");
    return std::nullopt;
  }
  json written = fields_to_json(config);
  written["architectures"] = {"UMT5EncoderModel"};
  written["model_type"] = "umt5";
  written["feed_forward_proj"] = "gated-gelu";
  written["tie_word_embeddings"] = false;
  return written;
}

TensorShapes part_shapes(const TransformerConfig& config) {
  return shapes_of(*Transformer(config, at::TensorOptions().device(at::kMeta)));
}

TensorShapes part_shapes(const VaeConfig& config) {
  return shapes_of(*Vae(config));
}

TensorShapes part_shapes(const Umt5Config& config) {
  return shapes_of(*Umt5Encoder(config, at::TensorOptions().device(at::kMeta)));
}

}  // namespace ospnext
