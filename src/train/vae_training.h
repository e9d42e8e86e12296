// Training of a video VAE on procedural clips.
#pragma once

#include <optional>

#include "models/vae.h"
#include "train/frame_sizes.h"
#include "train/training_run.h"

namespace ospnext {

// Each step draws a clip length of 9, 17 or 33 frames, and takes as many clips as fill about
// frames_per_step frames. Long clips teach the decoder not to drift; short clips are cheaper.
struct VaeTrainingConfig : TrainingConfig {
  std::string vae_config = "configs/tiny/vae.json";  // sizes, as in a diffusers config.json
  std::string initial_vae;    // folder or file to start from; empty: random weights
  bool decoder_only = false;  // keep the initial VAE's encoder, so its latents stay the same
  std::vector<std::string> sizes = {"128x128", "112x144", "144x112"};  // height x width
  int64_t frames_per_step = 132;                                       // 4 clips of 33 frames
  double full_length_share = 0.5;  // share of steps with 33 frames; the others have 9 or 17
  double kl_weight = 3e-4;        // weight of the mean KL divergence of a latent value from N(0, 1)
  double absolute_weight = 0.1;   // weight of the mean absolute error; squared error has weight 1
  int64_t evaluation_clips = 64;  // held-out clips that are measured at the end

  // Throws InputError naming flag, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    TrainingConfig::visit(field);
    field("vae_config", vae_config, "JSON file of the VAE's sizes (diffusers' config.json)");
    field("initial_vae", initial_vae, "VAE to go on from, instead of from nothing");
    field("decoder_only", decoder_only,
          "keep the initial VAE's encoder, so that models of its latents stay valid");
    field("sizes", sizes, "frame sizes, height x width; the first takes half of the clips");
    field("frames_per_step", frames_per_step, "frames of a step, over all its clips");
    field("full_length_share", full_length_share, "share of steps on whole 33-frame clips");
    field("kl_weight", kl_weight, "weight of the latent's mean KL divergence from N(0, 1)");
    field("absolute_weight", absolute_weight, "weight of the mean absolute error");
    field("evaluation_clips", evaluation_clips, "held-out clips measured at the end");
  }
};

// Peak signal-to-noise ratio (peak-to-peak range 2) of reconstructions of held-out 33-frame clips.
struct VaeQuality {
  double mean_db = 0;               // mean over clips and frames of each frame's PSNR
  std::vector<double> position_db;  // mean over clips by frame position
  double worst_position_db() const;
};

// Encodes clips and decodes their mean latents. videos [B, 3, T, H, W] in [-1, 1], T frames of H x
// W pixels -> same shape, float32, clamped to [-1, 1], on the same device.
at::Tensor reconstruct(Vae& vae, const at::Tensor& videos, at::ScalarType precision);

// Measures reconstruct() on `clips` held-out clips of one frame size. Throws Cancelled.
VaeQuality measure_vae(Vae& vae, const FrameSize& size, at::Device device, at::ScalarType precision,
                       int64_t clips, uint64_t seed, const CancellationToken& cancel);

// Trains, then writes `output`/vae/ (config.json with mean and standard deviation of the latents,
// weights in float16) and measures the result. Returns nothing when max_seconds ended the run with
// a checkpoint. Throws InputError, RunError and Cancelled.
std::optional<VaeQuality> train_vae(const VaeTrainingConfig& config, Progress& progress,
                                    const CancellationToken& cancel);

}  // namespace ospnext
