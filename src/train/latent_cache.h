// Procedural clips as latents and caption tokens, encoded once and kept on the training device.
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
  at::Tensor ids;      // [N, forms, T] int64, one row per sentence form, padded with 0
};

struct LatentCacheRequest {
  std::vector<FrameSize> sizes;
  int64_t clips = 1024;  // over all sizes
  ClipSplit split = ClipSplit::kTrain;
  uint64_t seed = 0;
  int64_t max_tokens = 96;    // T; no caption may be longer
  double two_objects = 0.25;  // share of the clips with a second object
  double patterned = 0.5;     // share of the clips with a pattern on the background
  ShapeShares shape_shares = kEqualShares;
};

// Returns one group per frame size, in the order of request.sizes. Reads them from `file` if it was
// written for the same request and VAE. Otherwise renders and encodes the clips in `precision`, and
// writes `file` unless its name is empty. Throws InputError when a caption has too many tokens, and
// Cancelled.
std::vector<LatentGroup> latent_cache(const LatentCacheRequest& request, Vae& vae,
                                      at::ScalarType precision, const Tokenizer& tokenizer,
                                      at::Device device, const std::filesystem::path& file,
                                      Progress& progress, const CancellationToken& cancel);

}  // namespace ospnext
