// Procedural clips as latents and caption tokens, made once and kept on the training device.
#pragma once

#include <filesystem>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "core/torch/torch.h"
#include "data/tiny_world/procedural_clips.h"
#include "models/vae.h"
#include "text/tokenizer.h"
#include "train/frame_sizes.h"

namespace ospnext {

// Clips of one frame size.
struct LatentGroup {
  at::Tensor latents;  // [N, z, F, h, w] bf16, normalised
  at::Tensor ids;      // [N, forms, T] int64, one row a sentence form, 0 behind the end
};

struct LatentCacheRequest {
  std::vector<FrameSize> sizes;
  int64_t clips = 1024;  // over all sizes
  uint64_t seed = 0;
  int64_t max_tokens = 96;    // T; no caption may be longer
  double two_objects = 0.25;  // shares of the clips: those with a second object,
  double patterned = 0.5;     // those with a pattern on the background
  ShapeShares shape_shares = kEqualShares;
};

// One group a size, read from `file` when it was written for the same request, else rendered,
// encoded and (with a non-empty `file`) written. Throws InputError when a caption has too many tokens.
std::vector<LatentGroup> latent_cache(const LatentCacheRequest& request, Vae& vae,
                                      at::ScalarType precision, const Tokenizer& tokenizer,
                                      at::Device device, const std::filesystem::path& file,
                                      Progress& progress, const CancellationToken& cancel);

}  // namespace ospnext
