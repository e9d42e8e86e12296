// What one video is made with: size, steps, guidance; and where its defaults come from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "models/transformer_config.h"
#include "models/vae_config.h"
#include "packages/model_folder.h"
#include "schedulers/sampler.h"

namespace ospnext {

// The negative prompt of Wan2.1 and OSP-Next. Source: Wan2.1 wan/configs/shared_config.py.
extern const char* const kWanNegativePrompt;

// Defaults are OSP-Next's for 480P; defaults_for() gives those of a model.
struct GenerationConfig {
  std::string negative_prompt = kWanNegativePrompt;  // empty: the empty prompt
  int64_t width = 832;                               // pixels
  int64_t height = 480;                              // pixels
  int64_t num_frames = 81;
  double fps = 16;  // frames a second of the file; the model is not told
  int64_t steps = 50;
  double guidance_scale = 5.0;  // up to 1: no guidance, and no negative prompt
  double shift = 7.0;           // of time; larger spends more steps at high noise
  std::string scheduler = "euler";
  std::vector<double> sigmas;  // noise levels to visit instead of the scheduler's own
  bool batch_guidance = false;
  bool cuda_graph = true;              // on a GPU, replay the steps of small videos
  std::string vae_tile = "auto";       // resolve_vae_tiling()
  std::string vae_precision = "auto";  // of the VAE alone

  template <class Visitor>
  void visit(Visitor&& field) {
    field("negative_prompt", negative_prompt, "what the video should not show");
    visit_sampling(field);
    field("num_frames", num_frames, "frames, 4k + 1");
    field("fps", fps, "frames a second of the output");
    field("batch_guidance", batch_guidance,
          "run prompt and negative prompt as one batch instead of two passes");
    field("cuda_graph", cuda_graph,
          "on a GPU, record the kernels of a small video's step and replay them");
    field("vae_tile", vae_tile,
          "decode in tiles: SIZE,STRIDE in pixels such as 256,192; none; auto: only when the whole "
          "frame would not fit");
    field("vae_precision", vae_precision,
          "float32 or bf16 for the VAE alone; auto: as --precision");
  }

  // The fields of a clip of the model's own length: its size and how it is denoised.
  template <class Visitor>
  void visit_sampling(Visitor&& field) {
    field("width", width, "pixels, a multiple of 16");
    field("height", height, "pixels, a multiple of 16");
    field("steps", steps, "denoising steps");
    field("guidance_scale", guidance_scale, "strength of the prompt; up to 1: no guidance");
    field("shift", shift, "time shift; larger spends more steps at high noise");
    field("scheduler", scheduler, sampler_help().c_str());
    field("sigmas", sigmas, kSigmasHelp);
  }

  // Of the transformer in a step: with the prompt and, where there is guidance, without it.
  int64_t passes() const { return guidance_scale > 1 && !batch_guidance ? 2 : 1; }
  // The VAE's number format where the rest has `dtype`. Throws InputError.
  at::ScalarType vae_dtype(at::ScalarType dtype) const;
  // Throws InputError naming the flag, the value and what was expected (for a size the nearest ones
  // that fit the model's parts).
  void check(const VaeConfig& vae) const;
  // A run of the scheduler. Throws InputError as make_sampler() does.
  std::unique_ptr<Sampler> sampler() const { return make_sampler(scheduler, steps, shift, sigmas); }
};

// Shape of one sample's latent: frames, height, width.
struct LatentSize {
  int64_t frames, height, width;
};
LatentSize latent_size(const GenerationConfig& config, const VaeConfig& vae);
// The transformer's tokens of it.
Grid token_grid(const LatentSize& latent);

// The generation_config.json beside the model, over the defaults of its kind and size: 50 steps, 81
// frames at 16 fps; 720x1280 from width 5120 (14B) on, else 480x832; and
//   OSP-Next  euler, shift 7, guidance 5; so also for parts named one by one
//   Wan-AI    unipc; shift 5, guidance 5 for 14B, shift 8, guidance 6 for smaller ones
//   diffusers what scheduler_config.json says (scheduler_choice()), guidance 5; without it as OSP-Next
// Throws InputError. Sources: OSP-Next configs/; Wan2.1 generate.py and, for 1.3B, its README.
GenerationConfig defaults_for(const ModelFiles& files, const TransformerConfig& transformer);

}  // namespace ospnext
