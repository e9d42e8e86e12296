// Training of a video VAE on procedural clips.
#pragma once

#include <optional>

#include "models/vae.h"
#include "train/frame_sizes.h"
#include "train/training_run.h"

namespace ospnext {

// Long windows teach the decoder not to drift, short ones are cheaper: each step draws one of 9, 17 and
// 33 frames, and takes as many clips as fill about the same number of frames.
struct VaeTrainingConfig : TrainingConfig {
  std::string vae_config = "configs/tiny/vae.json";  // sizes, as in a diffusers config.json
  std::string initial_vae;    // folder or file to go on from; empty: from nothing
  bool decoder_only = false;  // keep the initial VAE's encoder, and so the meaning of its latents
  std::vector<std::string> sizes = {"128x128", "112x144", "144x112"};  // height x width
  int64_t frames_per_step = 132;                                       // 4 clips of 33 frames
  double full_length_share = 0.5;  // of the steps; the other steps divide between 9 and 17 frames
  double kl_weight = 3e-4;         // of the mean KL divergence of a latent value from N(0, 1)
  double absolute_weight = 0.1;    // of the mean absolute error, beside the mean squared error
  int64_t evaluation_clips = 64;   // held-out clips measured at the end

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

// Clips through the VAE and back, by the mean latent. videos [B, 3, T, H, W] in [-1, 1] -> the same shape,
// float32, clamped to [-1, 1], on the videos' device.
at::Tensor reconstruct(Vae& vae, const at::Tensor& videos, at::ScalarType precision);

// Reconstructs `clips` held-out clips of one size by the mean latent. Throws Cancelled.
VaeQuality measure_vae(Vae& vae, const FrameSize& size, at::Device device, at::ScalarType precision,
                       int64_t clips, uint64_t seed, const CancellationToken& cancel);

// Trains, then writes `output`/vae/ (config.json with the latent's mean and deviation, weights in
// float16) and measures it. Nothing when max_seconds ended the run with a checkpoint.
std::optional<VaeQuality> train_vae(const VaeTrainingConfig& config, Progress& progress,
                                    const CancellationToken& cancel);

}  // namespace ospnext
