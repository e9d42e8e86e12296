// A video decoded by several ranks (processes over Gloo) in strips or in tiles equals the video
// that one rank decodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "core/torch/random.h"
#include "models/vae_fixture.h"
#include "models/vae_tiling.h"
#include "support/compare.h"
#include "support/run_ranks.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-5;  // relative L2: the same sums in another order

at::Tensor latent_of(at::IntArrayRef shape) {
  return torch::randn(shape, seeded_generator(5, "ranks"), at::kFloat);
}

using Decode = std::function<void(Vae& vae, const at::Tensor& latent, const ProcessGroup& ranks,
                                  const std::function<void(const at::Tensor&)>& sink)>;

// The video [B, 3, T, H, W] and the number of frames of each piece. Undefined and empty on ranks
// that do not call their sink.
struct Decoded {
  at::Tensor video;
  std::vector<int64_t> pieces;
};

Decoded decode(const Decode& way, Vae& vae, const at::Tensor& latent, const ProcessGroup& ranks) {
  std::vector<at::Tensor> pieces;
  way(vae, latent, ranks, [&](const at::Tensor& piece) { pieces.push_back(piece); });
  Decoded decoded;
  for (const at::Tensor& piece : pieces) {
    decoded.pieces.push_back(piece.size(2));
  }
  decoded.video = pieces.empty() ? at::Tensor() : at::cat(pieces, 2);
  return decoded;
}

void expect_equal_to_one_rank(const Decode& way, int size,
                              const std::vector<std::vector<int64_t>>& shapes) {
  VaeFixture fixture("wan");
  std::vector<Decoded> expected;
  for (const auto& shape : shapes) {
    expected.push_back(decode(way, fixture.vae, latent_of(shape), {}));
  }
  run_ranks(size, [&](const ProcessGroup& all) {
    double worst = 0;
    for (size_t i = 0; i < shapes.size(); ++i) {
      const Decoded decoded = decode(way, fixture.vae, latent_of(shapes[i]), all);
      if (all.rank() != 0) {
        EXPECT_FALSE(decoded.video.defined());
        continue;
      }
      EXPECT_EQ(decoded.pieces, expected[i].pieces);
      const double error = relative_l2(decoded.video, expected[i].video);
      EXPECT_LT(error, kTolerance) << at::IntArrayRef(shapes[i]);
      worst = std::max(worst, error);
    }
    if (all.rank() == 0) {
      std::printf("  %d ranks: relative L2 at most %.1e\n", size, worst);
    }
  });
}

void in_strips(Vae& vae, const at::Tensor& latent, const ProcessGroup& ranks,
               const std::function<void(const at::Tensor&)>& sink) {
  vae->decode(latent, sink, nullptr, vae::Strips(ranks, latent.size(3)));
}

// Tiles of 4 x 4 latent values, one every 3 values.
Decode in_tiles(int64_t span) {
  return [span](Vae& vae, const at::Tensor& latent, const ProcessGroup& ranks,
                const std::function<void(const at::Tensor&)>& sink) {
    decode_tiled(
        vae, latent, {32, 24}, sink, [] {}, nullptr, span, ranks);
  };
}

TEST(VaeRanks, StripsOnTwoEqualOne) {
  expect_equal_to_one_rank(in_strips, 2, {{1, 16, 3, 4, 3}, {1, 16, 1, 5, 2}, {2, 16, 2, 2, 3}});
}

TEST(VaeRanks, StripsOnThreeEqualOne) {
  expect_equal_to_one_rank(in_strips, 3, {{1, 16, 3, 7, 3}, {1, 16, 1, 3, 2}});
}

TEST(VaeRanks, StripsOnFourEqualOne) {
  expect_equal_to_one_rank(in_strips, 4, {{1, 16, 3, 8, 3}, {1, 16, 2, 6, 2}});
}

TEST(VaeRanks, StripsOnEightEqualOne) {
  expect_equal_to_one_rank(in_strips, 8, {{1, 16, 2, 8, 2}, {1, 16, 1, 11, 2}});
}

// 6 x 7 values make 2 x 3 tiles: with four ranks, two ranks have no tile in the second turn. 2 x 5
// values make two tiles: two of four ranks never have one.
TEST(VaeRanks, TilesEqualOne) {
  const std::vector<std::vector<int64_t>> shapes = {
      {1, 16, 3, 6, 7}, {1, 16, 1, 2, 5}, {2, 16, 2, 5, 4}};
  for (const int size : {2, 4}) {
    expect_equal_to_one_rank(in_tiles(kTiledSpan), size, shapes);
  }
}

TEST(VaeRanks, TilesSpanBySpanEqualOne) {
  expect_equal_to_one_rank(in_tiles(2), 2, {{1, 16, 3, 4, 7}});
}

TEST(VaeRanks, FramesNoLargerThanATileAreDecodedInStrips) {
  expect_equal_to_one_rank(in_tiles(kTiledSpan), 2, {{1, 16, 2, 4, 4}});
}

// Decodes a strip without its neighbours, and attends without the other strips: both must differ.
TEST(VaeRanks, StripsThatSeeNothingBeyondTheirEdgesAreNoticed) {
  VaeFixture fixture("wan");
  const at::Tensor latent = latent_of({1, 16, 1, 4, 3});
  const at::Tensor whole = decode(in_strips, fixture.vae, latent, {}).video;
  const at::Tensor upper = decode(in_strips, fixture.vae, latent.narrow(3, 0, 2), {}).video;
  EXPECT_GT(relative_l2(upper, whole.narrow(3, 0, 16)), 100 * kTolerance);
  vae::FrameAttention& attention = fixture.vae->decoder->middle1;
  const torch::NoGradGuard no_grad;
  const at::Tensor x = torch::randn({1, attention->norm->gamma.size(0), 1, 4, 3});
  const at::Tensor alone = attention->forward(x.narrow(3, 0, 2));
  EXPECT_GT(relative_l2(alone, attention->forward(x).narrow(3, 0, 2)), 100 * kTolerance);
}

// Per piece, each convolution of three rows fetches its neighbours' rows once, and the attention
// gathers its keys and values once.
TEST(VaeRanks, ExchangesAreCounted) {
  VaeFixture fixture("wan");
  const auto journal = std::make_shared<Journal>();
  GroupOptions options;
  options.journal = journal;
  run_ranks(
      2,
      [&](const ProcessGroup& all) {
        const VaeConfig& config = fixture.vae->config;
        const auto levels = std::ssize(config.dim_mult);
        const int64_t convolutions =
            1 + 4 + levels * (config.num_res_blocks + 1) * 2 + (levels - 1) + 1;
        constexpr int64_t F = 3, h = 4, w = 3;
        decode(in_strips, fixture.vae, latent_of({1, 16, F, h, w}), all);
        EXPECT_EQ(journal->traffic().at("rows").calls, F * convolutions);
        const Traffic keys = journal->traffic().at("keys"),
                      frames = journal->traffic().at("frames");
        EXPECT_EQ(keys.calls, F);
        EXPECT_EQ(keys.bytes, F * (h / 2) * w * 2 * config.dim * config.dim_mult.back() * 4);
        EXPECT_EQ(frames.calls, F);
        EXPECT_EQ(frames.bytes, all.rank() == 0 ? 0 : (4 * F - 3) * 3 * (8 * h / 2) * (8 * w) * 4);
        decode(in_tiles(kTiledSpan), fixture.vae, latent_of({1, 16, F, 4, 7}), all);
        EXPECT_EQ(journal->traffic().at("tiles").calls, 3 * F);  // 2 x 3 tiles, two at a time
      },
      options);
}

}  // namespace
}  // namespace ospnext
