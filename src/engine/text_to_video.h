// From prompts to videos: the whole pipeline, part after part.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "core/torch/spans.h"
#include "core/torch/torch.h"
#include "engine/generation_config.h"
#include "engine/work_ranks.h"
#include "models/vae_tiling.h"
#include "packages/model_source.h"
#include "schedulers/sampler.h"

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

// How the videos of a run will be decoded: resolve_vae_tiling() with the free memory of the device
// before anything is loaded. With several samples the transformer stays in memory beside the VAE.
// The result is the same on all processes and suits the one with the least memory. It does not
// depend on how many processes share a frame, so that several make the same video as one. Throws
// InputError.
std::optional<VaeTiling> vae_tiling_of(const ModelSource& source, const ComputeOptions& compute,
                                       const GenerationConfig& config, size_t num_samples,
                                       const ProcessGroup& all = {});

// Makes one video for each sample, and finishes each before the next begins. A part is loaded whole
// before it computes anything and freed when it is done, the transformer before the last sample is
// decoded. Small models, of less than a quarter of the free memory, are loaded whole at the
// beginning, so that a broken part is refused at once. Each text is embedded just before its video,
// and the encoder is freed after the last text. Only where the encoder has no room beside the
// transformer and what this computes are all texts embedded first. A text is embedded once, and
// only its own rows are kept.
//
// Several processes call this with the same arguments. The leader encodes the texts, all denoise as
// the mesh says, and all decode each video in strips of rows or in tiles. Only the leader calls its
// receiver; it makes previews alone, of the first of the videos that are made at the same time.
// `spans`, if given, records what lies inside the stages; no CUDA graphs are recorded then.
// Throws InputError, RunError (a result that is NaN), Cancelled.
void text_to_video(const ModelSource& source, const ComputeOptions& compute,
                   const GenerationConfig& config, const std::vector<VideoSample>& samples,
                   VideoReceiver& receiver, Progress& progress, const CancellationToken& cancel,
                   const WorkRanks& ranks = {}, Spans* spans = nullptr);

// How the prompt steers the denoising of one latent.
struct Guidance {
  TextVectors text;           // of the prompt; if batched, of it and the negative prompt
  TextVectors negative_text;  // of the negative prompt; empty: batched, shared, or no guidance
  double scale = 1.0;
  bool batched = false;      // both texts as one batch instead of two passes
  ProcessGroup passes = {};  // two processes that make one pass each, each with its own text
};

// Embeds the texts [n, D], of n <= text_len rows each. Without a negative_text there is no
// guidance. With two processes in `passes`, the first makes the pass with the prompt and the second
// the pass with the negative prompt.
Guidance guide(Transformer& transformer, const at::Tensor& text, const at::Tensor& negative_text,
               double scale, bool batched, const ProcessGroup& passes = {});

// The guided velocity at a noise level. latent [16, F, h, w] float32, timestep [1] float32 from 0
// to 1000 -> [16, F, h, w] float32 on the transformer's device.
at::Tensor predict_velocity(Transformer& transformer, const at::Tensor& latent,
                            const at::Tensor& timestep, const Guidance& guidance,
                            const CancellationToken& cancel, Spans* spans = nullptr);

// Called when `done` steps (1 to all) are done, with the clean latent that the last one points to,
// latent - sigma * velocity, [16, F, h, w] float32.
using EstimateWatcher = std::function<void(int64_t done, const at::Tensor& estimate)>;

// Follows the sampler from noise to a latent, both [16, F, h, w] float32. With `record`, on a GPU
// and inside a SideStream, the kernels of a step are recorded once and replayed
// (core/torch/cuda_graph.h). `spans` must be null then.
at::Tensor denoise(Transformer& transformer, Sampler& sampler, const at::Tensor& noise,
                   const Guidance& guidance, bool record, Progress& progress,
                   const CancellationToken& cancel, const EstimateWatcher& watch = {},
                   Spans* spans = nullptr);

}  // namespace ospnext
