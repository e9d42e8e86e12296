// Denoising: from noise to latents, steered by text.
// Letters: B latents denoised together, F x h x w their size.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "core/torch/torch.h"
#include "models/transformer.h"
#include "parallel/process_group.h"
#include "schedulers/sampler.h"

namespace ospnext {

// How prompts steer the denoising of B latents.
struct Guidance {
  TextVectors text;  // of the B prompts; if batched, of them and the negative prompt B times
  TextVectors negative_text;  // of the negative prompt; empty: batched, shared, or no guidance
  double scale = 1.0;
  bool batched = false;      // both texts as one batch instead of two passes
  ProcessGroup passes = {};  // two processes that make one pass each, each with its own text
};

// The texts of a guidance: rows [n, D] of each prompt and of the negative prompt, n <= text_len,
// in any dtype and on any device. Without a negative text there is no guidance.
struct GuidingTexts {
  std::vector<at::Tensor> prompts;
  at::Tensor negative = {};
  double scale = 1.0;
  bool batched = false;
};

// Embeds the texts, padded once. With two processes in `passes`, the first makes the pass with the
// prompts and the second the pass with the negative prompt.
Guidance guide(Transformer& transformer, const GuidingTexts& texts, const Execution& run,
               const ProcessGroup& passes = {});

// Called between the parts of a computation; throws Cancelled to end it.
using CancelCheck = std::function<void()>;

// The guided velocity at a noise level. latent [B, 16, F, h, w] float32, timestep [1] float32 from
// 0 to 1000 -> [B, 16, F, h, w] float32 on the transformer's device. check() is called between two
// passes.
at::Tensor predict_velocity(Transformer& transformer, const at::Tensor& latent,
                            const at::Tensor& timestep, const Guidance& guidance,
                            const TokenTables& tables, const Execution& run,
                            const CancelCheck& check);

// A velocity as predict_velocity() gives it, at a noise level from 0 to 1 whose timestep is also on
// the device. The result is valid until the next call.
using VelocityFunction = std::function<at::Tensor(const at::Tensor& latent,
                                                  const at::Tensor& timestep, double noise_level)>;
// Called when `done` steps (1 to all) are done, with the clean latents that the last one points to,
// latent - sigma * velocity, [B, 16, F, h, w] float32.
using EstimateWatcher = std::function<void(int64_t done, const at::Tensor& estimate)>;

// Follows the sampler from noise to latents, both [B, 16, F, h, w] float32, on one device. check()
// is called before each step.
at::Tensor denoise(const VelocityFunction& velocity, Sampler& sampler, const at::Tensor& noise,
                   Progress& progress, const CancelCheck& check, const EstimateWatcher& watch = {},
                   Spans* spans = nullptr);

}  // namespace ospnext
