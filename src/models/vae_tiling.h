// The VAE on overlapping tiles of the frame, for frames too large to be coded at once.
//
// Tiles lie `stride` apart from the top left corner on and are `size` wide and high, those at the
// right and bottom edge thinner. Each is coded alone, through the whole clip; where two overlap the
// later one fades in linearly. The result is close to, but not, what the whole frame gives: a tile
// does not see past its edge.
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

// In pixels; the defaults are diffusers'.
struct VaeTiling {
  int64_t size = 256;
  int64_t stride = 192;

  // Throws InputError unless both are multiples of the VAE's spatial factor, 0 < stride <= size.
  void check(const VaeConfig& vae) const;
  // Whether a frame is cut at all: a frame no larger than a tile is coded whole.
  bool cuts(int64_t height, int64_t width) const { return height > size || width > size; }
  // Tiles of a frame.
  int64_t count(int64_t height, int64_t width) const;
  std::string text() const { return std::to_string(size) + "," + std::to_string(stride); }
};

// "256,192" -> {256, 192}; "none" -> nothing. Throws InputError.
std::optional<VaeTiling> parse_vae_tiling(const std::string& text, const VaeConfig& vae);

// As Vae::encode(), tile after tile. video [B, 3, T, H, W] in [-1, 1] -> normalised mean
// [B, z, F, h, w], float32, on the parameters' device.
at::Tensor encode_tiled(Vae& vae, const at::Tensor& video, const VaeTiling& tiling,
                        const CancellationToken* cancel = nullptr);

// How many latent frames decode_tiled() decodes, tile after tile, before their video leaves.
constexpr int64_t kTiledSpan = 64;

// As Vae::decode(), tile after tile through spans of `span` latent frames. Frames come on the CPU,
// in pieces as from Vae::decode(), each span's when its last tile is done; on_piece is called
// whenever one latent frame of one tile is done, count() * F times in all, or F times for a frame
// that is not cut.
//
// Memory on the parameters' device is that of one tile and of its span's video. Memory on the CPU is that of a
// span's video and does not grow with F beyond `span`; longer clips also keep there what the decoder remembers
// of each tile from one span to the next, about as much as a thousand frames of video.
//
// Several ranks take the tiles in turn, all at the same frame, or strips of a frame that is not cut; rank 0 puts
// them together, with the video of a tile of each rank in its memory, and is the only one to call what it is given.
void decode_tiled(
    Vae& vae, const at::Tensor& latent, const VaeTiling& tiling,
    const std::function<void(const at::Tensor&)>& sink,
    const std::function<void()>& on_piece = [] {}, const CancellationToken* cancel = nullptr,
    int64_t span = kTiledSpan, const ProcessGroup& ranks = {});

}  // namespace ospnext
