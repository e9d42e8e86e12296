// The settings for one video: size, steps, guidance; and the source of their defaults.
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

// The defaults are those of OSP-Next for 480P; defaults_for() returns those of a given model.
struct GenerationConfig {
  std::string negative_prompt = kWanNegativePrompt;  // empty: the empty prompt
  int64_t width = 832;                               // pixels
  int64_t height = 480;                              // pixels
  int64_t num_frames = 81;
  double fps = 16;  // frames per second in the file; the model does not use it
  int64_t steps = 50;
  double guidance_scale = 5.0;  // 1 or less: no guidance, and no negative prompt
  double shift = 7.0;           // time shift; larger spends more steps at high noise
  std::string scheduler = "euler";
  std::vector<double> sigmas;  // noise levels instead of the scheduler's own
  bool batch_guidance = false;
  bool cuda_graph = true;              // on a GPU, replay the recorded steps of small videos
  std::string vae_tile = "auto";       // resolve_vae_tiling()
  std::string vae_precision = "auto";  // for the VAE alone

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
          "float32 or bf16 for the VAE alone; auto: as `precision`");
  }

  // The fields that also apply to a clip of the model's own length: its size and how it is
  // denoised.
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

  // Passes of the transformer per step: with the prompt and, if there is guidance, without it.
  int64_t passes() const { return guidance_scale > 1 && !batch_guidance ? 2 : 1; }
  // The VAE's dtype if the rest has `dtype`. Throws InputError.
  at::ScalarType vae_dtype(at::ScalarType dtype) const;
  // Throws InputError with the flag, the value and what was expected. For a size, it names the
  // nearest sizes that fit the model's parts.
  void check(const VaeConfig& vae) const;
  // The sampler for one run of the scheduler. Throws InputError as make_sampler() does.
  std::unique_ptr<Sampler> sampler() const { return make_sampler(scheduler, steps, shift, sigmas); }
};

// Size of one sample's latent.
struct LatentSize {
  int64_t frames, height, width;
};
LatentSize latent_size(const GenerationConfig& config, const VaeConfig& vae);
// The grid of the transformer's tokens for this latent.
Grid token_grid(const LatentSize& latent);

// The defaults for a model. The generation_config.json beside the model overrides the defaults of
// its kind and size: 50 steps, 81 frames at 16 fps; 720x1280 (height x width) for a transformer
// width of at least 5120 (14B), else 480x832; and by package layout:
//   OSP-Next  euler, shift 7, guidance 5; also for parts that are given one by one
//   Wan-AI    unipc; for 14B shift 5 and guidance 5, for smaller models shift 8 and guidance 6
//   diffusers guidance 5; scheduler and shift from scheduler_config.json (scheduler_choice());
//             without that file as OSP-Next
// Throws InputError.
// Sources: OSP-Next configs/; Wan2.1 generate.py and, for 1.3B, its README.
GenerationConfig defaults_for(const ModelFiles& files, const TransformerConfig& transformer);

}  // namespace ospnext
