#include "support/tiny_model.h"

#include "core/fields.h"
#include "core/torch/random.h"
#include "io/weights.h"
#include "models/vae.h"
#include "support/temporary_folder.h"
#include "text/tokenizer.h"

namespace ospnext {
namespace {

const char* tiny_generation_config() {
  return R"({"width": 48, "height": 32, "num_frames": 5, "fps": 8, "steps": 3,
             "guidance_scale": 3.0, "shift": 5.0, "negative_prompt": "", "scheduler": "euler"})";
}

}  // namespace

TransformerConfig tiny_transformer_config() {
  TransformerConfig config;
  config.dim = 128;
  config.ffn_dim = 64;
  config.freq_dim = 32;
  config.text_dim = 32;
  config.num_heads = 1;
  config.num_layers = 2;
  return config;
}

TransformerConfig ranks_transformer_config(const std::string& type) {
  TransformerConfig config = tiny_transformer_config();
  config.dim = 64;
  config.num_heads = 4;
  config.num_layers = 8;
  config.skiparse_model_type = type;
  config.num_full_blocks = type == "dual_end" ? 4 : 0;
  return config;
}

Umt5Config tiny_text_encoder_config() {
  Umt5Config config;
  config.vocab_size = 512;
  config.d_model = 32;
  config.num_heads = 2;
  config.d_kv = 16;
  config.d_ff = 48;
  config.num_layers = 2;
  return config;
}

VaeConfig tiny_vae_config() {
  VaeConfig config;
  config.dim = 8;
  config.dim_mult = {1, 2, 2, 2};
  config.num_res_blocks = 1;
  return config;
}

std::map<std::string, at::Tensor> random_weights(torch::nn::Module& module, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> weights;
  at::Generator generator = seeded_generator(seed, "tiny model");
  for (const auto& item : module.named_parameters()) {
    const at::IntArrayRef shape = item.value().sizes();
    const at::Tensor values = torch::randn(shape, generator, torch::kFloat32);
    const auto fan_in = static_cast<double>(shape.size() > 1 ? values[0].numel() : 1);
    const bool is_scale = item.key().find("norm") != std::string::npos ||
                          item.key().find("gamma") != std::string::npos;
    weights[item.key()] = is_scale           ? 1 + 0.1 * values
                          : shape.size() > 1 ? values / std::sqrt(fan_in)
                                             : 0.1 * values;
  }
  return weights;
}

Transformer random_transformer(const TransformerConfig& config, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  Transformer transformer(config);
  const auto weights = random_weights(*transformer, seed);
  for (auto& item : transformer->named_parameters()) {
    item.value().copy_(weights.at(item.key()));
  }
  return transformer;
}

void add_adapters(Transformer& transformer, bool trainable) {
  const auto draw = [](at::IntArrayRef shape, const char* purpose) {
    return at::randn(shape, seeded_generator(11, purpose), at::kFloat);
  };
  for (const auto& item : transformer->named_modules("", /*include_self=*/false)) {
    if (auto* linear = item.value()->as<LinearImpl>()) {
      const int64_t out = linear->weight.size(0), in = linear->weight.size(1), r = 8;
      const auto device = linear->bias.device();
      LowRank change{draw({r, in}, "down").to(device) / std::sqrt(static_cast<double>(in)),
                     draw({out, r}, "up").to(device) * 0.1, 0.5};
      change.down.set_requires_grad(trainable);
      change.up.set_requires_grad(trainable);
      linear->adapters = {change};
    }
  }
}

void train_tiny_tokenizer(const std::filesystem::path& file) {
  train_tokenizer({"a red ball rolls to the left", "a blue cube spins over green grass",
                   "one yellow star moves up and down", "two small disks grow and shrink"},
                  110, file, 1);
}

void write_tiny_diffusers_model(const std::filesystem::path& folder,
                                const TransformerConfig& transformer_config) {
  const auto part = [&](const char* name, const char* stem, const nlohmann::json& config,
                        const std::map<std::string, at::Tensor>& weights) {
    std::filesystem::create_directories(folder / name);
    write_file(folder / name / "config.json", config.dump());
    save_safetensors(folder / name / stem, weights);
  };
  Transformer transformer(transformer_config);
  Umt5Encoder text_encoder(tiny_text_encoder_config());
  Vae vae(tiny_vae_config());
  part("transformer", "diffusion_pytorch_model.safetensors", fields_to_json(transformer_config),
       random_weights(*transformer, 1));
  part("text_encoder", "model.safetensors", fields_to_json(tiny_text_encoder_config()),
       random_weights(*text_encoder, 2));
  part("vae", "diffusion_pytorch_model.safetensors", fields_to_json(tiny_vae_config()),
       random_weights(*vae, 3));
  std::filesystem::create_directories(folder / "tokenizer");
  train_tiny_tokenizer(folder / "tokenizer" / "spiece.model");
  write_file(folder / "model_index.json", "{\"_class_name\": \"WanPipeline\"}");
  write_file(folder / "generation_config.json", tiny_generation_config());
}

void write_tiny_wan_model(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder / "google" / "umt5-xxl");
  Transformer transformer(tiny_transformer_config());
  Umt5Encoder text_encoder(tiny_text_encoder_config());
  Vae vae(tiny_vae_config());
  save_safetensors(folder / "diffusion_pytorch_model.safetensors", random_weights(*transformer, 1));
  save_safetensors(folder / "models_t5_umt5-xxl-enc-bf16.safetensors",
                   random_weights(*text_encoder, 2));
  save_safetensors(folder / "Wan2.1_VAE.safetensors", random_weights(*vae, 3));
  train_tiny_tokenizer(folder / "google" / "umt5-xxl" / "spiece.model");
  write_file(folder / "generation_config.json", tiny_generation_config());
}

void write_sparse_model(const std::filesystem::path& folder) {
  TransformerConfig config = tiny_transformer_config();
  config.num_heads = 4;
  config.num_layers = 8;
  config.skiparse_model_type = "dual_end";
  config.num_full_blocks = 4;
  write_tiny_diffusers_model(folder, config);
}

}  // namespace ospnext
