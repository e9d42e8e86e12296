// From prompts to videos: the whole pipeline, part after part.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "engine/generation_config.h"
#include "engine/video_model.h"

namespace ospnext {

// One video to make.
struct VideoSample {
  std::string prompt;
  uint64_t seed = 0;
  at::Tensor noise;  // [16, F, h, w] float32 to start from; undefined: drawn from the seed
};

// Takes what the pipeline makes, sample after sample, each in this order.
class VideoReceiver {
 public:
  virtual ~VideoReceiver() = default;
  // A text (a prompt or the negative prompt) has `tokens` tokens, </s> among them, of which the
  // model reads only the first `read`. Called once a text, before the first sample that needs it.
  virtual void prompt_cut(const std::string& /*text*/, int64_t /*tokens*/, int64_t /*read*/) {}
  // Whether preview() is wanted when `done` steps (1 to all) of the sample's denoising are done.
  virtual bool wants_preview(size_t /*sample*/, int64_t /*done*/) { return false; }
  // The first frame [3, 1, H, W] float32 in [-1, 1] of the clean video as that step estimates it.
  virtual void preview(size_t /*sample*/, int64_t /*done*/, const at::Tensor& /*frame*/) {}
  // The denoised latent [16, F, h, w] float32, normalised.
  virtual void latent(size_t sample, const at::Tensor& latent) = 0;
  // The next frames [3, n, H, W] float32 in [-1, 1], on any device.
  virtual void frames(size_t sample, const at::Tensor& frames) = 0;
  // All frames of the sample have come.
  virtual void finished(size_t sample) = 0;
};

// The receiver of ranks that do not lead, to which nothing comes.
class NoVideos final : public VideoReceiver {
  void latent(size_t, const at::Tensor&) override {}
  void frames(size_t, const at::Tensor&) override {}
  void finished(size_t) override {}
};

// How the videos of a run will be decoded: resolve_vae_tiling() with the free memory of the device
// before anything is loaded. With several samples the transformer stays in memory beside the VAE.
// The result is the same on all processes and suits the one with the least memory. It does not
// depend on how many processes share a frame, so that several make the same video as one. Throws
// InputError.
std::optional<VaeTiling> vae_tiling_of(const ModelSource& source, const ComputeOptions& compute,
                                       const GenerationConfig& config, size_t num_samples,
                                       const ProcessGroup& all = {});

// Makes one video for each sample, and finishes each before the next begins. A part is loaded whole
// before it computes anything. Small models, of less than a quarter of the free memory, are loaded
// whole at the beginning, so that a broken part is refused at once. Each text is embedded just
// before its video. Only where the encoder has no room beside the transformer and what this
// computes are all texts embedded first, and each of the two is freed before the other is loaded. A
// text is embedded once, and only its own rows are kept.
// If the model does not stay open, the encoder is freed after the last text and the transformer
// before the last sample is decoded.
//
// Several processes call this with the same arguments. The leader encodes the texts, all denoise as
// the mesh says, and all decode each video in strips of rows or in tiles. Only the leader calls its
// receiver; it makes previews alone, of those of the videos that it denoises itself.
//
// `batch`: so many samples in a row are denoised together, as one batch of the transformer, which
// changes a video by no more than rounding.
// Throws InputError, RunError (a result that is NaN), Cancelled: see VideoModel.
void make_videos(VideoModel& model, const GenerationConfig& config,
                 const std::vector<VideoSample>& samples, VideoReceiver& receiver,
                 const JobControl& job, int64_t batch = 1);

// make_videos() with a model that is opened for it and closed after it.
void text_to_video(const ModelSource& source, const ComputeOptions& compute,
                   const GenerationConfig& config, const std::vector<VideoSample>& samples,
                   VideoReceiver& receiver, Progress& progress, const CancellationToken& cancel,
                   const WorkRanks& ranks = {}, Spans* spans = nullptr);

}  // namespace ospnext
