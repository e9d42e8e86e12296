#include "models/vae_tiling.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <vector>

#include "core/error.h"
#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

constexpr int64_t kRows = 3, kColumns = 4;  // axes of [B, C, T, H, W]

// The place of a tile in the frame.
struct Place {
  int64_t top, left;
};

// The places of all tiles, row by row.
std::vector<Place> places(int64_t height, int64_t width, int64_t stride) {
  std::vector<Place> all;
  for (int64_t top = 0; top < height; top += stride) {
    for (int64_t left = 0; left < width; left += stride) {
      all.push_back({top, left});
    }
  }
  return all;
}

// The part of x [B, C, T, H, W] inside a tile at `place`, at most size x size, a view.
at::Tensor cut(const at::Tensor& x, const Place& place, int64_t size) {
  return x.narrow(kRows, place.top, std::min(size, x.size(kRows) - place.top))
      .narrow(kColumns, place.left, std::min(size, x.size(kColumns) - place.left));
}

// The last `count` rows or columns of a tile, or all of them if there are fewer.
at::Tensor last(const at::Tensor& tile, int64_t axis, int64_t count) {
  const int64_t kept = std::min(count, tile.size(axis));
  return tile.narrow(axis, tile.size(axis) - kept, kept);
}

// Blends the first rows or columns of `tile` with the last ones of its neighbour, in place: the
// tile fades in linearly.
void fade_in(at::Tensor& tile, const at::Tensor& neighbour, int64_t axis) {
  const int64_t extent = std::min(tile.size(axis), neighbour.size(axis));
  if (extent == 0) {
    return;
  }
  std::array<int64_t, 5> shape{1, 1, 1, 1, 1};
  shape[static_cast<size_t>(axis)] = extent;
  // 0 to below 1 along `axis`
  const at::Tensor weight = (at::arange(extent, tile.options()) / extent).view(shape);  // [shape]
  at::Tensor edge = tile.narrow(axis, 0, extent);
  edge.copy_(last(neighbour, axis, extent) * (1 - weight) + edge * weight);
}

// Blends tiles into one picture, on the tiles' device. Tiles must be added row by row: the tile
// above and the tile to the left of a tile are then blended already.
class Mosaic {
 public:
  // `picture` [B, C, T, H, W] float32, on any device, receives the result.
  Mosaic(at::Tensor picture, int64_t size, int64_t stride)
      : picture_(std::move(picture)), stride_(stride), overlap_(size - stride) {}

  // Adds a tile [B, C, T, H, W] and overwrites it.
  void add(const Place& place, at::Tensor tile) {
    if (place.top > 0) {
      fade_in(tile, above_.at(place.left), kRows);
    }
    if (place.left > 0) {
      fade_in(tile, before_, kColumns);
    }
    above_[place.left] = last(tile, kRows, overlap_).clone();
    before_ = last(tile, kColumns, overlap_).clone();
    cut(picture_, place, stride_).copy_(cut(tile, {0, 0}, stride_));
  }

 private:
  at::Tensor picture_;
  int64_t stride_, overlap_;
  std::map<int64_t, at::Tensor> above_;  // by left edge: the last rows of the tile above
  at::Tensor before_;                    // the last columns of the tile to the left
};

void check_cancelled(const CancellationToken* cancel) {
  if (cancel != nullptr) {
    cancel->check();
  }
}

// Gathers one piece of video [B, 3, n, H, W] from each rank on rank 0; returns nothing on the other
// ranks. Rank i has tile i, and its latent parts[i] gives the size of its piece. A rank without a
// tile passes an empty piece.
std::vector<at::Tensor> collect(const at::Tensor& piece, const std::vector<at::Tensor>& parts,
                                int64_t factor, const ProcessGroup& ranks) {
  if (ranks.alone()) {
    return {piece};
  }
  std::vector<int64_t> sent(ranks.size(), 0), received(ranks.size(), 0);
  std::vector<std::vector<int64_t>> shapes;
  sent[0] = piece.numel();
  for (size_t i = 0; ranks.rank() == 0 && i < parts.size(); ++i) {
    shapes.push_back({piece.size(0), piece.size(1), piece.size(2), parts[i].size(kRows) * factor,
                      parts[i].size(kColumns) * factor});
    received[i] = c10::multiply_integers(shapes[i]);
  }
  const at::Tensor values =
      ranks.all_to_all(piece.flatten(), sent, received, "tiles");  // [sum of received]
  const auto flat = values.split_with_sizes(received);
  std::vector<at::Tensor> pieces;
  for (size_t i = 0; i < shapes.size(); ++i) {
    pieces.push_back(flat[i].view(shapes[i]));  // [B, 3, n, H, W]
  }
  return pieces;
}

// Decodes one tile on each rank, all ranks at the same latent frame. parts: the latents of the
// tiles, [B, z, F, h, w] each, at most one for each rank -> their videos, [B, 3, T, H, W] each, on
// rank 0; nothing on the other ranks. `stream` belongs to this rank's tile.
std::vector<at::Tensor> decode_tile_each(Vae& vae, const std::vector<at::Tensor>& parts,
                                         vae::Stream& stream, const std::function<void()>& on_piece,
                                         const CancellationToken* cancel,
                                         const ProcessGroup& ranks) {
  const auto mine = static_cast<size_t>(ranks.rank());
  const at::Tensor none = at::empty({0}, vae->conv2->weight.options());
  std::vector<std::vector<at::Tensor>> pieces(parts.size());
  for (int64_t frame = 0; frame < parts[0].size(2); ++frame) {
    check_cancelled(cancel);
    const at::Tensor piece =
        mine < parts.size() ? vae->decode_piece(parts[mine].narrow(2, frame, 1), stream) : none;
    const auto collected = collect(piece, parts, vae->config.spatial_factor(), ranks);
    for (size_t i = 0; i < collected.size(); ++i) {
      pieces[i].push_back(collected[i]);
      on_piece();
    }
  }
  std::vector<at::Tensor> videos;
  for (size_t i = 0; ranks.rank() == 0 && i < parts.size(); ++i) {
    videos.push_back(at::cat(pieces[i], 2));
  }
  return videos;
}

}  // namespace

void VaeTiling::check(const VaeConfig& vae) const {
  const int64_t factor = vae.spatial_factor();
  if (size < 1 || size > 1 << 16 || stride < 1 || stride > size || size % factor != 0 ||
      stride % factor != 0) {
    throw InputError("`vae_tile`: found " + text() +
                     ", expected SIZE,STRIDE in pixels, multiples of " + std::to_string(factor) +
                     ", STRIDE at most SIZE");
  }
}

int64_t VaeTiling::count(int64_t height, int64_t width) const {
  return cuts(height, width) ? static_cast<int64_t>(places(height, width, stride).size()) : 1;
}

std::optional<VaeTiling> parse_vae_tiling(const std::string& text, const VaeConfig& vae) {
  if (text == "none") {
    return std::nullopt;
  }
  VaeTiling tiling;
  const char* const end = text.data() + text.size();
  const auto [comma, error] = std::from_chars(text.data(), end, tiling.size);
  bool fits = error == std::errc() && comma != end && *comma == ',';
  if (fits) {
    const auto [stop, second_error] = std::from_chars(comma + 1, end, tiling.stride);
    fits = second_error == std::errc() && stop == end;
  }
  if (!fits) {
    throw InputError("`vae_tile`: found \"" + text +
                     "\", expected SIZE,STRIDE in pixels such as 256,192, or none");
  }
  tiling.check(vae);
  return tiling;
}

at::Tensor encode_tiled(Vae& vae, const at::Tensor& video, const VaeTiling& tiling,
                        const CancellationToken* cancel) {
  CHECK_SHAPE(video, -1, 3, -1, -1, -1);
  tiling.check(vae->config);
  vae->check_video_size(video.size(2), video.size(3), video.size(4));
  if (!tiling.cuts(video.size(3), video.size(4))) {
    return vae->encode(video, cancel);
  }
  const torch::NoGradGuard no_grad;
  const int64_t factor = vae->config.spatial_factor(), pairs = vae->config.temporal_factor();
  const at::Tensor mean =
      at::empty({video.size(0), vae->config.z_dim, (video.size(2) - 1) / pairs + 1,
                 video.size(3) / factor, video.size(4) / factor},
                vae->conv1->weight.options().dtype(at::kFloat));
  Mosaic mosaic(mean, tiling.size / factor, tiling.stride / factor);
  for (const Place& place : places(video.size(3), video.size(4), tiling.stride)) {
    const at::Tensor part = cut(video, place, tiling.size);
    vae::Stream stream;
    std::vector<at::Tensor> means;
    for (int64_t begin = 0, count = 1; begin < video.size(2); begin += count, count = pairs) {
      check_cancelled(cancel);
      means.push_back(vae->encode_piece(part.narrow(2, begin, count), stream).to(at::kFloat));
    }
    mosaic.add({place.top / factor, place.left / factor}, at::cat(means, 2));
  }
  return vae->normalise(mean);
}

void decode_tiled(Vae& vae, const at::Tensor& latent, const VaeTiling& tiling,
                  const std::function<void(const at::Tensor&)>& sink,
                  const std::function<void()>& on_piece, const CancellationToken* cancel,
                  int64_t span, const ProcessGroup& ranks) {
  CHECK_SHAPE(latent, -1, vae->config.z_dim, -1, -1, -1);
  TORCH_CHECK(span > 0, "span ", span);
  tiling.check(vae->config);
  const int64_t factor = vae->config.spatial_factor(), pairs = vae->config.temporal_factor();
  const int64_t height = latent.size(3) * factor, width = latent.size(4) * factor;
  if (!tiling.cuts(height, width)) {
    const auto both = [&](const at::Tensor& frames) {
      on_piece();
      sink(frames);
    };
    vae->decode(latent, both, cancel, vae::Strips(ranks, latent.size(3)));
    return;
  }
  const torch::NoGradGuard no_grad;
  const std::vector<Place> tiles = places(latent.size(3), latent.size(4), tiling.stride / factor);
  const auto at_once = static_cast<size_t>(ranks.size());
  // one stream for each tile of this rank
  std::vector<vae::Stream> streams((tiles.size() + at_once - 1) / at_once);
  const int64_t end = latent.size(2);
  for (int64_t begin = 0; begin < end; begin += span) {
    const int64_t stop = std::min(begin + span, end);
    const int64_t frames = pairs * (stop - begin) - (begin == 0 ? pairs - 1 : 0);
    const bool leads = ranks.rank() == 0;
    const at::Tensor video =
        at::empty({latent.size(0), 3, leads ? frames : 0, height, width}, at::kFloat);
    Mosaic mosaic(video, tiling.size, tiling.stride);
    for (size_t turn = 0; turn < streams.size(); ++turn) {
      const size_t first = turn * at_once;
      std::vector<at::Tensor> parts;
      for (size_t i = first; i < std::min(first + at_once, tiles.size()); ++i) {
        parts.push_back(cut(latent.narrow(2, begin, stop - begin), tiles[i], tiling.size / factor));
      }
      streams[turn].to(vae->conv2->weight.device());
      const auto videos = decode_tile_each(vae, parts, streams[turn], on_piece, cancel, ranks);
      if (stop == end) {
        streams[turn] = vae::Stream();
      }
      streams[turn].to(at::kCPU);  // until the next span
      for (size_t i = 0; i < videos.size(); ++i) {
        const Place& tile = tiles[first + i];
        mosaic.add({tile.top * factor, tile.left * factor}, videos[i].to(at::kFloat));
      }
    }
    for (int64_t at = 0, count = begin == 0 ? 1 : pairs; leads && at < frames;
         at += count, count = pairs) {
      sink(video.narrow(2, at, count).clamp(-1, 1).contiguous());
    }
  }
}

}  // namespace ospnext
