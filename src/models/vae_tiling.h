// The VAE on overlapping tiles of the frame, for frames too large to encode or decode at once.
// Letters: B batch, T x H x W video, F x h x w latent, z latent channels, n frames of a piece.
//
// Tiles start at the top left corner, one every `stride` pixels in both directions, and are `size`
// high and wide; those at the right and bottom edges are smaller. Each tile is coded independently
// of the others, through the whole clip. In an overlap the later tile fades in linearly. The result
// is close to that of whole frames but not equal, since a tile gets no input beyond its edges.
// Source: diffusers models/autoencoders/autoencoder_kl_wan.py:tiled_encode, tiled_decode.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/cancel.h"
#include "core/torch/torch.h"
#include "models/vae.h"
#include "parallel/process_group.h"

namespace ospnext {

// Size and stride of tiles, in pixels. The defaults are diffusers'.
struct VaeTiling {
  int64_t size = 256;
  int64_t stride = 192;

  // Throws InputError unless 0 < stride <= size <= 65536 and both are multiples of the VAE's
  // spatial factor.
  void check(const VaeConfig& vae) const;
  // Whether a frame is cut. A frame that is not larger than a tile is coded whole.
  bool cuts(int64_t height, int64_t width) const { return height > size || width > size; }
  // The number of tiles of a frame; 1 for a frame that is not cut.
  int64_t count(int64_t height, int64_t width) const;
  std::string text() const { return std::to_string(size) + "," + std::to_string(stride); }
};

// "256,192" -> {256, 192}; "none" -> nothing. Throws InputError for other text.
std::optional<VaeTiling> parse_vae_tiling(const std::string& text, const VaeConfig& vae);

// Vae::encode() in tiles, one after the other. video [B, 3, T, H, W] in [-1, 1] -> normalised mean
// [B, z, F, h, w], float32, on the parameters' device.
at::Tensor encode_tiled(Vae& vae, const at::Tensor& video, const VaeTiling& tiling,
                        const CancellationToken* cancel = nullptr);

// The default number of latent frames in a span of decode_tiled().
constexpr int64_t kTiledSpan = 64;

// Vae::decode() in tiles. The clip is decoded in spans of `span` latent frames; in each span the
// tiles are decoded one after the other. When the last tile of a span is done, `sink` gets the
// video of the span in pieces as from Vae::decode(), but on the CPU. `on_piece` is called after
// each latent frame of each tile: count()·F times in all, or F times for a frame that is not cut.
//
// Memory on the parameters' device: one tile and the video of its span. Memory on the CPU: the
// video of one span, for any F. A clip of several spans also keeps the decoder's streams of all
// tiles on the CPU from one span to the next, about as much as a thousand frames of video.
//
// With several ranks, each rank decodes one of the next tiles, all at the same latent frame; a
// frame that is not cut is decoded in strips. Rank 0 assembles the video, holds the video of one
// tile of each rank, and is the only rank to call `sink` and `on_piece`.
void decode_tiled(
    Vae& vae, const at::Tensor& latent, const VaeTiling& tiling,
    const std::function<void(const at::Tensor&)>& sink,
    const std::function<void()>& on_piece = [] {}, const CancellationToken* cancel = nullptr,
    int64_t span = kTiledSpan, const ProcessGroup& ranks = {});

}  // namespace ospnext
