#include "train/model_folder_writer.h"

#include <map>

#include "core/error.h"
#include "core/fields.h"
#include "io/output_file.h"
#include "io/weights.h"
#include "packages/part_layouts.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw RunError(folder.string() + ": cannot be made: " + error.message());
  }
}

void write_json(const fs::path& file, const nlohmann::json& json) {
  write_text_file(file, json.dump(1) + "\n");
}

}  // namespace

void write_vae_folder(const fs::path& folder, const Vae& vae, const VaeConfig& config) {
  make_folder(folder);
  std::map<std::string, at::Tensor> weights;
  for (const auto& entry : vae->named_parameters()) {
    weights[entry.key()] = entry.value().detach().to(at::kCPU, at::kHalf).contiguous();
  }
  save_sharded_safetensors(folder, "diffusion_pytorch_model", weights, kMaxShardBytes);
  nlohmann::json json = fields_to_json(config);
  json["_class_name"] = "AutoencoderKLWan";
  write_json(folder / "config.json", json);
}

void write_transformer_folder(const fs::path& folder, const TensorOutputs& weights,
                              const TransformerConfig& config) {
  make_folder(folder);
  write_sharded_safetensors(folder, "diffusion_pytorch_model", weights, kMaxShardBytes);
  nlohmann::json json = fields_to_json(config);
  json["_class_name"] = "OSPNextModel";
  json["model_type"] = "t2v";
  write_json(folder / "config.json", json);
}

void write_text_encoder_folder(const fs::path& folder, const TensorOutputs& weights,
                               const Umt5Config& config) {
  make_folder(folder);
  write_sharded_safetensors(folder, "model", weights, kMaxShardBytes);
  nlohmann::json json = fields_to_json(config);
  json["model_type"] = "umt5";
  json["feed_forward_proj"] = "gated-gelu";
  write_json(folder / "config.json", json);
}

void write_model_index(const fs::path& folder, const fs::path& tokenizer,
                       const fs::path& generation_config) {
  make_folder(folder / "tokenizer");
  fs::copy_file(tokenizer, folder / "tokenizer" / "spiece.model",
                fs::copy_options::overwrite_existing);
  write_json(folder / "tokenizer" / "tokenizer_config.json", tokenizer_config());
  fs::copy_file(generation_config, folder / "generation_config.json",
                fs::copy_options::overwrite_existing);
  write_json(folder / "model_index.json", model_index("OSPNextModel"));
}

}  // namespace ospnext
