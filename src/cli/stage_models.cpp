// ospnext stage denoise, encode-video and decode-latent: each runs one network on a file's tensors.
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/log.h"
#include "io/weights.h"
#include "models/vae_tiling.h"
#include "packages/model_fields.h"

namespace ospnext {
namespace {

struct ModelStage {
  std::string input;
  ModelFields model;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("input", input, "safetensors with the stage's tensors");
    model.visit(field);
    common.visit(field);
  }
};

struct DenoiseStage : ModelStage {
  LiveLoraFields loras;

  DenoiseStage() { common.runs_transformer = true; }

  template <class Visitor>
  void visit(Visitor&& field) {
    ModelStage::visit(field);
    loras.visit(field);
  }
};

// The flags of stages that run the VAE.
struct VaeStage : ModelStage {
  std::string vae_tile = "none";

  template <class Visitor>
  void visit(Visitor&& field) {
    ModelStage::visit(field);
    field("vae_tile", vae_tile, "work in tiles: SIZE,STRIDE in pixels such as 256,192; or none");
  }
};

// Reads the flags of a stage and checks all that needs neither the input nor the model. Returns
// false after --help.
template <class Stage>
bool read_stage(const std::string& name, const std::string& summary, const Arguments& arguments,
                Stage& config) {
  if (!parse_flags("stage " + name, summary, arguments, config)) {
    return false;
  }
  config.common.check();
  config.common.compute();
  return true;
}

void check_timesteps(const at::Tensor& timestep, const std::string& file) {
  if (timestep.min().item<double>() < 0 || timestep.max().item<double>() > 1000) {
    throw InputError(file + ": timestep: found values outside of 0 to 1000 (sigma * 1000)");
  }
}

}  // namespace

void run_stage_denoise(const Arguments& arguments, const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  DenoiseStage config;
  if (!read_stage("denoise",
                  "Run the transformer once: latent [B,16,F,H,W], text [B,512,D] and timestep [B] "
                  "(sigma * 1000) give velocity [B,16,F,H,W].",
                  arguments, config)) {
    return;
  }
  StageInput input(config.input);
  const ComputeOptions compute = config.common.compute();
  const PartFiles files = config.model.find(config.loras).require(ModelPart::kTransformer);
  const TransformerConfig sizes = read_transformer_config(files);
  const at::Tensor latent = input.floats("latent", "B," + std::to_string(sizes.in_dim) + ",F,H,W");
  const at::Tensor text = input.floats(
      "text", "B," + std::to_string(sizes.text_len) + "," + std::to_string(sizes.text_dim));
  const at::Tensor timestep = input.floats("timestep", "B");
  input.warn_of_rest();
  check_timesteps(timestep, config.input);
  if (latent.size(3) % kPatchRows != 0 || latent.size(4) % kPatchColumns != 0) {
    throw InputError(config.input + ": latent: found sides " + std::to_string(latent.size(3)) +
                     " x " + std::to_string(latent.size(4)) + ", expected even ones");
  }
  Transformer transformer = load_transformer(files, compute);
  cancel.check();
  const at::Tensor velocity = transformer->forward(latent.to(compute.device, torch::kFloat32),
                                                   text.to(compute.device, compute.dtype),
                                                   timestep.to(compute.device, torch::kFloat32));
  cancel.check();
  save_safetensors(config.common.output, {{"velocity", velocity}});
}

void run_stage_encode_video(const Arguments& arguments, const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  VaeStage config;
  if (!read_stage(
          "encode-video",
          "Run the VAE's encoder: video [B,3,T,H,W] in [-1,1] gives latent [B,16,F,h,w], the "
          "normalised mean.",
          arguments, config)) {
    return;
  }
  StageInput input(config.input);
  const at::Tensor video = input.floats("video", "B,3,T,H,W");
  input.warn_of_rest();
  if (const auto largest = video.abs().max().item<double>(); largest > 1) {
    warn(config.input + ": video: found values up to " + std::to_string(largest) +
         ", expected -1 to 1");
  }
  const PartFiles files = config.model.find().require(ModelPart::kVae);
  const auto tiling = parse_vae_tiling(config.vae_tile, read_vae_config(files));
  Vae vae = load_vae(files, config.common.compute());
  const at::Tensor clip = video.to(torch::kFloat32);
  save_safetensors(config.common.output,
                   {{"latent", tiling ? encode_tiled(vae, clip, *tiling, &cancel)
                                      : vae->encode(clip, &cancel)}});
}

void run_stage_decode_latent(const Arguments& arguments, const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  VaeStage config;
  if (!read_stage(
          "decode-latent",
          "Run the VAE's decoder: latent [B,16,F,h,w] (normalised) gives video [B,3,T,H,W], "
          "clamped to [-1,1].",
          arguments, config)) {
    return;
  }
  StageInput input(config.input);
  const ComputeOptions compute = config.common.compute();
  const PartFiles files = config.model.find().require(ModelPart::kVae);
  const VaeConfig sizes = read_vae_config(files);
  const auto tiling = parse_vae_tiling(config.vae_tile, sizes);
  const at::Tensor latent = input.floats("latent", "B," + std::to_string(sizes.z_dim) + ",F,h,w");
  input.warn_of_rest();
  Vae vae = load_vae(files, compute);
  std::vector<at::Tensor> pieces;
  const auto sink = [&](const at::Tensor& frames) { pieces.push_back(frames.cpu()); };
  const at::Tensor on_device = latent.to(compute.device, torch::kFloat32);
  if (tiling) {
    decode_tiled(
        vae, on_device, *tiling, sink, [] {}, &cancel);
  } else {
    vae->decode(on_device, sink, &cancel);
  }
  save_safetensors(config.common.output, {{"video", torch::cat(pieces, 2)}});
}

}  // namespace ospnext
