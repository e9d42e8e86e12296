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
  // Of a text, a prompt or the negative one, with so many tokens (its end counted) only the first
  // `read` will be read. Told once a text, before the first sample that needs it.
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

// How the videos of a run will be decoded: resolve_vae_tiling() with the device's free memory now,
// before anything is loaded; with several samples the transformer stays in memory beside the VAE. The same on
// all processes, as suits the one with the least memory; how many share a frame makes no difference, so that
// they make the video that one makes. Throws InputError.
std::optional<VaeTiling> vae_tiling_of(const ModelSource& source, const ComputeOptions& compute,
                                       const GenerationConfig& config, size_t num_samples,
                                       const ProcessGroup& all = {});

// Makes one video a sample, each whole before the next is begun. Parts are loaded whole before they
// compute anything and freed when they are done, the transformer before the last sample is decoded.
// When all fit in memory at once (with room to work in), all are loaded before the first
// computation, so that a broken one is refused at once, and each text is embedded just before its
// video; the encoder goes after the last one. Otherwise it embeds all texts and goes before the
// transformer is loaded. Either way a text is embedded once, and only its own rows are kept.
// Several processes call it with the same arguments: the leader encodes the texts, all denoise as
// the mesh says, and all decode each video, by strips of rows or by tiles; the leader is the only
// one to call its receiver, and makes previews alone (of the first video of those made at the same
// time). What lies inside the stages goes to `spans`; steps are not recorded as CUDA graphs then.
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
  ProcessGroup passes = {};  // two processes that share the passes, each with the text of its own
};

// Embeds the texts, each [n, D], their own rows, n <= text_len; an undefined negative_text: no guidance.
// Of two processes in `passes` the first makes the pass with the prompt, the second that with the negative one.
Guidance guide(Transformer& transformer, const at::Tensor& text, const at::Tensor& negative_text,
               double scale, bool batched, const ProcessGroup& passes = {});

// The velocity at a noise level, guided. latent [16, F, h, w] float32, timestep [1] float32, 0 to 1000 -> the
// latent's shape, float32, on the transformer's device.
at::Tensor predict_velocity(Transformer& transformer, const at::Tensor& latent,
                            const at::Tensor& timestep, const Guidance& guidance,
                            const CancellationToken& cancel, Spans* spans = nullptr);

// Called when `done` steps (1 to all) are done, with the clean latent that the last one points to,
// latent - sigma * velocity, [16, F, h, w] float32.
using EstimateWatcher = std::function<void(int64_t done, const at::Tensor& estimate)>;

// Follows the sampler from noise to a latent, [16, F, h, w] float32 both. With `record`, on a GPU and a SideStream, the
// kernels of a step are recorded once and replayed (core/torch/cuda_graph.h); `spans` are null then.
at::Tensor denoise(Transformer& transformer, Sampler& sampler, const at::Tensor& noise,
                   const Guidance& guidance, bool record, Progress& progress,
                   const CancellationToken& cancel, const EstimateWatcher& watch = {},
                   Spans* spans = nullptr);

}  // namespace ospnext
