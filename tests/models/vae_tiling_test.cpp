// Compares the VAE in tiles with diffusers (tools/make_vae_fixtures.py). Planted mistakes must be
// noticed.
#include "models/vae_tiling.h"

#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/weights.h"
#include "models/vae_fixture.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 2e-4;  // of the largest value

// One case of tiled.safetensors.
struct TiledCase {
  explicit TiledCase(const std::string& name) : name(name) {
    const at::Tensor numbers = of("tiling");
    tiling = {numbers[0].item<int64_t>(), numbers[1].item<int64_t>()};
  }

  at::Tensor of(const std::string& part) const {
    static const auto tensors = read_tensors(fixture_path("vae/tiled.safetensors"));
    return tensors.at(name + "." + part);
  }
  at::Tensor video() const { return of("pixels").to(at::kFloat) / 127.5 - 1; }
  at::Tensor given() const { return of("given").to(at::kFloat); }
  // The difference between a decoded video [B, 3, T, H, W] and that of diffusers.
  double distance(const at::Tensor& decoded) const {
    return difference(decoded.index_select(2, of("kept")), of("video"));
  }

  std::string name;
  VaeTiling tiling;
};

Vae& shared_vae() {
  static VaeFixture fixture("wan");
  return fixture.vae;
}

at::Tensor decode(const at::Tensor& latent, const VaeTiling& tiling, int64_t span = kTiledSpan) {
  std::vector<at::Tensor> pieces;
  decode_tiled(
      shared_vae(), latent, tiling, [&](const at::Tensor& piece) { pieces.push_back(piece); },
      [] {}, nullptr, span);
  return at::cat(pieces, 2);
}

class VaeTiles : public testing::TestWithParam<std::string> {
 protected:
  TiledCase tiled{GetParam()};
};

TEST_P(VaeTiles, EncodeLikeDiffusers) {
  const double found =
      difference(encode_tiled(shared_vae(), tiled.video(), tiled.tiling), tiled.of("latent"));
  std::cout << "encode " << tiled.name << ": largest difference " << found << "\n";
  EXPECT_LE(found, kTolerance);
}

TEST_P(VaeTiles, DecodeLikeDiffusers) {
  const double found = tiled.distance(decode(tiled.given(), tiled.tiling));
  std::cout << "decode " << tiled.name << ": largest difference " << found << "\n";
  EXPECT_LE(found, kTolerance);
}

TEST_P(VaeTiles, ShortSpansGiveTheSameBits) {
  const at::Tensor expected = decode(tiled.given(), tiled.tiling);
  for (const int64_t span : {1, 2}) {
    EXPECT_TRUE(torch::equal(decode(tiled.given(), tiled.tiling, span), expected)) << span;
  }
}

TEST_P(VaeTiles, WholeFramesAndOtherTilesAreNoticed) {
  VaeTiling other = tiled.tiling;
  other.stride -= 8;
  EXPECT_GT(tiled.distance(decode(tiled.given(), {256, 192})), kTolerance);
  EXPECT_GT(tiled.distance(decode(tiled.given(), other)), kTolerance);
  const at::Tensor whole = shared_vae()->encode(tiled.video());
  EXPECT_GT(difference(whole, tiled.of("latent")), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Vae, VaeTiles, testing::Values("thin", "narrow", "low", "apart"));

// Mistakes in the blending of tiles.
enum class Mistake {
  kNone,
  kNoBlending,
  kRowsOnly,
  kUnblendedNeighbours,
  kColumnsFirst,
  kAsIfFull
};

void blend(const at::Tensor& before, at::Tensor& tile, int64_t axis, int64_t overlap,
           Mistake mistake) {
  const int64_t extent = std::min({before.size(axis), tile.size(axis), overlap});
  for (int64_t i = 0; i < extent; ++i) {
    const double weight = static_cast<double>(i) / static_cast<double>(extent);
    const int64_t reach = mistake == Mistake::kAsIfFull ? overlap : extent;
    const int64_t from = std::max<int64_t>(before.size(axis) - reach, 0) + i;
    at::Tensor line = tile.select(axis, i);
    line.copy_(before.select(axis, from) * (1 - weight) + line * weight);
  }
}

// Decodes a video in tiles and blends them line by line.
at::Tensor by_hand(const TiledCase& tiled, Mistake mistake) {
  const torch::NoGradGuard no_grad;
  const at::Tensor latent = tiled.given();
  const int64_t size = tiled.tiling.size / 8, stride = tiled.tiling.stride / 8;
  const int64_t overlap = tiled.tiling.size - tiled.tiling.stride;
  std::vector<std::vector<at::Tensor>> raw, blended;
  std::vector<at::Tensor> rows;
  for (int64_t top = 0; top < latent.size(3); top += stride) {
    raw.emplace_back();
    blended.emplace_back();
    std::vector<at::Tensor> row;
    for (int64_t left = 0; left < latent.size(4); left += stride) {
      const at::Tensor part = latent.slice(3, top, top + size).slice(4, left, left + size);
      vae::Stream stream;
      std::vector<at::Tensor> pieces;
      for (int64_t frame = 0; frame < part.size(2); ++frame) {
        pieces.push_back(shared_vae()->decode_piece(part.narrow(2, frame, 1), stream));
      }
      raw.back().push_back(at::cat(pieces, 2));
      at::Tensor tile = raw.back().back().clone();
      const size_t r = raw.size() - 1, c = raw.back().size() - 1;
      const auto& neighbours = mistake == Mistake::kUnblendedNeighbours ? raw : blended;
      const auto from_above = [&] {
        if (r > 0 && mistake != Mistake::kNoBlending) {
          blend(neighbours[r - 1][c], tile, 3, overlap, mistake);
        }
      };
      const auto from_left = [&] {
        if (c > 0 && mistake != Mistake::kNoBlending && mistake != Mistake::kRowsOnly) {
          blend(neighbours[r][c - 1], tile, 4, overlap, mistake);
        }
      };
      if (mistake == Mistake::kColumnsFirst) {
        from_left();
        from_above();
      } else {
        from_above();
        from_left();
      }
      blended.back().push_back(tile);
      row.push_back(tile.slice(3, 0, stride * 8).slice(4, 0, stride * 8));
    }
    rows.push_back(at::cat(row, 4));
  }
  return at::cat(rows, 3).clamp(-1, 1);
}

TEST(VaeTilesPlanted, MistakesInBlendingAreNoticed) {
  const TiledCase thin("thin");
  EXPECT_LE(thin.distance(by_hand(thin, Mistake::kNone)), kTolerance);
  for (const Mistake mistake : {Mistake::kNoBlending, Mistake::kRowsOnly,
                                Mistake::kUnblendedNeighbours, Mistake::kColumnsFirst}) {
    const double found = thin.distance(by_hand(thin, mistake));
    EXPECT_GT(found, kTolerance) << static_cast<int>(mistake);
  }
  const TiledCase narrow("narrow");  // has tiles that are thinner than the overlap
  EXPECT_LE(narrow.distance(by_hand(narrow, Mistake::kNone)), kTolerance);
  EXPECT_GT(narrow.distance(by_hand(narrow, Mistake::kAsIfFull)), kTolerance);
}

TEST(VaeTiling, FramesLeaveSpanBySpan) {
  const TiledCase narrow("narrow");  // 3 latent frames
  const int64_t tiles = narrow.tiling.count(40, 72);
  EXPECT_EQ(tiles, 15);
  std::vector<int64_t> events;  // 0: a piece was decoded; n: the sink got n frames
  decode_tiled(
      shared_vae(), narrow.given(), narrow.tiling,
      [&](const at::Tensor& frames) {
        EXPECT_EQ(frames.device(), at::kCPU);
        EXPECT_LE(frames.abs().max().item<float>(), 1.0f);
        events.push_back(frames.size(2));
      },
      [&] { events.push_back(0); }, nullptr, 2);
  std::vector<int64_t> expected(static_cast<size_t>(2 * tiles), 0);
  expected.insert(expected.end(), {1, 4});
  expected.insert(expected.end(), static_cast<size_t>(tiles), 0);
  expected.push_back(4);
  EXPECT_EQ(events, expected);
}

TEST(VaeTiling, CancellationStopsBetweenPieces) {
  const TiledCase thin("thin");
  CancellationToken cancel;
  int pieces = 0;
  const auto on_piece = [&] {
    if (++pieces == 4) {
      cancel.cancel();
    }
  };
  const auto sink = [](const at::Tensor&) { FAIL() << "no frame is done yet"; };
  EXPECT_THROW(decode_tiled(shared_vae(), thin.given(), thin.tiling, sink, on_piece, &cancel),
               Cancelled);
  EXPECT_EQ(pieces, 4);
  EXPECT_THROW(encode_tiled(shared_vae(), thin.video(), thin.tiling, &cancel), Cancelled);
}

TEST(VaeTiling, FramesNoLargerThanATileAreCodedWhole) {
  const TiledCase low("low");
  const at::Tensor latent = low.given();
  std::vector<at::Tensor> pieces;
  shared_vae()->decode(latent, [&](const at::Tensor& piece) { pieces.push_back(piece); });
  EXPECT_TRUE(torch::equal(decode(latent, {56, 8}), at::cat(pieces, 2)));
  EXPECT_TRUE(torch::equal(encode_tiled(shared_vae(), low.video(), {56, 8}),
                           shared_vae()->encode(low.video())));
  EXPECT_EQ((VaeTiling{56, 8}.count(16, 56)), 1);
  EXPECT_EQ((VaeTiling{48, 8}.count(16, 56)), 14);
}

TEST(VaeTiling, IsWrittenAsSizeAndStride) {
  const VaeConfig vae;
  const auto refusal = [&](const std::string& text) -> std::string {
    try {
      parse_vae_tiling(text, vae);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_FALSE(parse_vae_tiling("none", vae).has_value());
  EXPECT_EQ(parse_vae_tiling("512,384", vae)->text(), "512,384");
  EXPECT_EQ(refusal("256,256"), "");
  EXPECT_EQ(refusal("256"),
            "`vae_tile`: found \"256\", expected SIZE,STRIDE in pixels such as 256,192, or none");
  EXPECT_EQ(refusal("256,200,1"),
            "`vae_tile`: found \"256,200,1\", expected SIZE,STRIDE in pixels such as 256,192, or "
            "none");
  EXPECT_EQ(refusal("256,300"),
            "`vae_tile`: found 256,300, expected SIZE,STRIDE in pixels, multiples of 8, STRIDE at "
            "most SIZE");
  for (const char* bad : {"", "auto", ",", "256,", "0,0", "-256,192", "256,-8", "256,0", "250,192",
                          "256,100", "256, 192", "99999999999999999999,8", "1048576,8"}) {
    EXPECT_NE(refusal(bad), "") << bad;
  }
}

TEST(VaeTiling, SizesThatDoNotFitAreRefused) {
  EXPECT_THROW(encode_tiled(shared_vae(), at::zeros({1, 3, 4, 56, 56}), {32, 24}), InputError);
  EXPECT_THROW(encode_tiled(shared_vae(), at::zeros({1, 3, 5, 50, 56}), {32, 24}), InputError);
  EXPECT_THROW(decode(at::zeros({1, 16, 1, 7, 7}), {32, 25}), InputError);
}

TEST(VaeTiling, CudaEqualsCpu) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  VaeFixture fixture("wan");
  fixture.vae->to(at::kCUDA);
  fixture.vae->to_channels_last();
  const TiledCase narrow("narrow");
  EXPECT_LE(difference(encode_tiled(fixture.vae, narrow.video(), narrow.tiling).cpu(),
                       narrow.of("latent")),
            kTolerance);
  std::vector<at::Tensor> pieces;
  decode_tiled(
      fixture.vae, narrow.given().cuda(), narrow.tiling,
      [&](const at::Tensor& piece) { pieces.push_back(piece); }, [] {}, nullptr, 1);
  EXPECT_LE(narrow.distance(at::cat(pieces, 2)), kTolerance);
}

}  // namespace
}  // namespace ospnext
