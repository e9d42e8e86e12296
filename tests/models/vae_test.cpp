// Compares the video VAE with diffusers' AutoencoderKLWan, and its streaming form with its
// whole-clip form.
#include "models/vae.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <string>
#include <tuple>

#include "core/error.h"
#include "models/vae_fixture.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-4;  // of the largest value; float32 sums in another order

// The root mean square of the difference, relative to that of the expected values.
double mean_difference(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual - expected).norm() / expected.norm()).item<double>();
}

at::Tensor decode_all(Vae& vae, const at::Tensor& latent) {
  std::vector<at::Tensor> pieces;
  vae->decode(latent, [&](const at::Tensor& piece) { pieces.push_back(piece); });
  return at::cat(pieces, 2);
}

at::Tensor whole_clip_latent(Vae& vae, const at::Tensor& video) {
  return vae->normalise(vae->encode_clip(video).narrow(1, 0, vae->config.z_dim));
}

at::Tensor whole_clip_video(Vae& vae, const at::Tensor& latent) {
  return vae->decode_clip(vae->denormalise(latent)).clamp(-1, 1);
}

class VaeCase : public testing::TestWithParam<std::tuple<std::string, int64_t>> {
 protected:
  VaeFixture fixture{std::get<0>(GetParam())};
  int64_t frames = std::get<1>(GetParam());
};

TEST_P(VaeCase, EncodesLikeDiffusers) {
  const at::Tensor latent = fixture.vae->encode(fixture.video(frames));
  const double found = difference(latent, fixture.of(frames, "latent"));
  RecordProperty("difference", std::to_string(found));
  std::cout << "encode " << frames << " frames: largest difference " << found << "\n";
  EXPECT_LE(found, kTolerance);
}

TEST_P(VaeCase, DecodesLikeDiffusers) {
  const at::Tensor video = decode_all(fixture.vae, fixture.given(frames));
  ASSERT_EQ(video.size(2), frames);
  const at::Tensor kept = video.index_select(2, fixture.of(frames, "kept"));
  const double found = difference(kept, fixture.of(frames, "video"));
  std::cout << "decode " << frames << " frames: largest difference " << found << "\n";
  EXPECT_LE(found, kTolerance);
}

TEST_P(VaeCase, WholeClipEqualsStream) {
  const torch::NoGradGuard no_grad;
  Vae& vae = fixture.vae;
  const double encoded =
      difference(whole_clip_latent(vae, fixture.video(frames)), vae->encode(fixture.video(frames)));
  const double decoded = difference(whole_clip_video(vae, fixture.given(frames)),
                                    decode_all(vae, fixture.given(frames)));
  std::cout << "whole clip and stream, " << frames << " frames: encode " << encoded << ", decode "
            << decoded << "\n";
  EXPECT_LE(encoded, 1e-5);
  EXPECT_LE(decoded, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Vae, VaeCase,
                         testing::Values(std::tuple{"wan", 1}, std::tuple{"wan", 17},
                                         std::tuple{"wan", 81}, std::tuple{"other", 5}));

TEST(Vae, BatchIsIndependentSamples) {
  VaeFixture fixture("wan");
  const at::Tensor first = fixture.video(17), second = first.flip(3);
  const at::Tensor both = fixture.vae->encode(at::cat({first, second}));
  EXPECT_LE(difference(both.narrow(0, 0, 1), fixture.of(17, "latent")), kTolerance);
  const at::Tensor clips = whole_clip_latent(fixture.vae, at::cat({first, second}));
  EXPECT_LE(difference(clips, both), 1e-5);
  const at::Tensor videos = whole_clip_video(fixture.vae, both);
  EXPECT_LE(difference(videos, decode_all(fixture.vae, both)), 1e-5);
}

TEST(Vae, ChannelsLastWeightsChangeNothing) {
  VaeFixture fixture("wan");
  fixture.vae->to_channels_last();
  EXPECT_TRUE(fixture.vae->encoder->conv1->weight.is_contiguous(at::MemoryFormat::ChannelsLast3d));
  EXPECT_LE(difference(fixture.vae->encode(fixture.video(17)), fixture.of(17, "latent")),
            kTolerance);
  const at::Tensor video = whole_clip_video(fixture.vae, fixture.given(17));
  EXPECT_LE(difference(video, fixture.of(17, "video")), kTolerance);
}

TEST(Vae, Bfloat16StaysNearFloat32) {
  VaeFixture fixture("wan");
  const torch::NoGradGuard no_grad;
  const at::Tensor moments = fixture.vae->encode_clip(fixture.video(17).to(at::kBFloat16));
  EXPECT_EQ(moments.scalar_type(), at::kBFloat16);  // float32 weights, bfloat16 input
  const at::Tensor latent = fixture.vae->normalise(moments.narrow(1, 0, 16));
  const double mixed = mean_difference(latent, fixture.of(17, "latent"));
  fixture.vae->to(at::kBFloat16);
  const at::Tensor streamed = fixture.vae->encode(fixture.video(17));
  EXPECT_EQ(streamed.scalar_type(), at::kFloat);
  const double pure = mean_difference(streamed, fixture.of(17, "latent"));
  const double decoded =
      mean_difference(decode_all(fixture.vae, fixture.given(17)), fixture.of(17, "video"));
  std::cout << "bfloat16: encode " << mixed << " " << pure << ", decode " << decoded << "\n";
  EXPECT_LE(mixed, 2e-2);
  EXPECT_LE(pure, 2e-2);
  EXPECT_LE(decoded, 2e-2);
}

TEST(Vae, GradientReachesEveryParameter) {
  VaeFixture fixture("other");
  const at::Tensor moments = fixture.vae->encode_clip(fixture.video(5));
  const at::Tensor video = fixture.vae->decode_clip(moments.narrow(1, 0, 4));
  (video.square().mean() + moments.square().mean()).backward();
  for (const auto& parameter : fixture.vae->named_parameters()) {
    const at::Tensor gradient = parameter->grad();
    ASSERT_TRUE(gradient.defined()) << parameter.key();
    EXPECT_TRUE(gradient.isfinite().all().item<bool>()) << parameter.key();
    EXPECT_GT(gradient.abs().max().item<double>(), 0) << parameter.key();
  }
}

// A step along the gradient changes the loss by the squared length of the gradient.
TEST(Vae, GradientPredictsTheChangeOfTheLoss) {
  VaeFixture fixture("other");
  const auto loss = [&] {
    return fixture.vae->decode_clip(fixture.vae->encode_clip(fixture.video(5)).narrow(1, 0, 4))
        .to(at::kDouble)
        .square()
        .mean();
  };
  loss().backward();
  const torch::NoGradGuard no_grad;
  double squared_length = 0;
  for (const at::Tensor& parameter : fixture.vae->parameters()) {
    squared_length += parameter.grad().to(at::kDouble).square().sum().item<double>();
  }
  const double step = 1e-4 / std::sqrt(squared_length);
  const auto move = [&](double by) {
    for (at::Tensor& parameter : fixture.vae->parameters()) {
      parameter.add_(parameter.grad(), by);
    }
    return loss().item<double>();
  };
  const double ahead = move(step), behind = move(-2 * step);
  EXPECT_NEAR((ahead - behind) / (2 * step * squared_length), 1, 1e-2);
}

TEST(Vae, FreshParametersReconstructNothingButStayFinite) {
  torch::manual_seed(1);
  VaeConfig config;
  config.dim = 4;
  Vae vae(config);
  const at::Tensor latent = vae->encode(at::rand({1, 3, 5, 8, 8}) * 2 - 1);
  EXPECT_EQ(latent.sizes(), (std::vector<int64_t>{1, 16, 2, 1, 1}));
  EXPECT_TRUE(decode_all(vae, latent).isfinite().all().item<bool>());
}

TEST(Vae, MemoryOfTheStreamDoesNotGrow) {
  VaeFixture fixture("wan");
  const torch::NoGradGuard no_grad;
  vae::Stream encoding, decoding;
  std::vector<int64_t> encoder_bytes, decoder_bytes;
  for (int64_t piece = 0; piece < 8; ++piece) {
    encoding.begin_piece();
    fixture.vae->encoder->forward(at::rand({1, 3, piece == 0 ? 1 : 4, 16, 24}), &encoding);
    encoder_bytes.push_back(encoding.bytes());
    decoding.begin_piece();
    fixture.vae->decoder->forward(at::rand({1, 16, 1, 2, 3}), &decoding);
    decoder_bytes.push_back(decoding.bytes());
  }
  EXPECT_EQ(encoder_bytes[1], encoder_bytes[7]);
  // one piece later than the encoder, because the second upsampling in time starts later
  EXPECT_EQ(decoder_bytes[2], decoder_bytes[7]);
}

TEST(Vae, FramesLeaveAsTheyAreMade) {
  VaeFixture fixture("wan");
  CancellationToken cancel;
  std::vector<int64_t> counts;
  const auto sink = [&](const at::Tensor& frames) {
    counts.push_back(frames.size(2));
    if (counts.size() == 3) {
      cancel.cancel();
    }
  };
  EXPECT_THROW(fixture.vae->decode(fixture.given(81), sink, &cancel), Cancelled);
  EXPECT_EQ(counts, (std::vector<int64_t>{1, 4, 4}));
  EXPECT_THROW(fixture.vae->encode(fixture.video(17), &cancel), Cancelled);
}

TEST(Vae, SizesThatDoNotFitAreRefusedWithTheNearest) {
  VaeFixture fixture("wan");
  const auto message = [&](int64_t frames, int64_t height, int64_t width) -> std::string {
    try {
      fixture.vae->encode(at::zeros({1, 3, frames, height, width}));
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(16, 16, 24), "video: found frame count 16, expected 13 or 17");
  EXPECT_EQ(message(0, 16, 24), "video: found frame count 0, expected 1");
  EXPECT_EQ(message(17, 20, 24), "video: found height 20, expected 16 or 24");
  EXPECT_EQ(message(17, 16, 4), "video: found width 4, expected 8");
}

TEST(Vae, CudaEqualsCpu) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  VaeFixture fixture("wan");
  fixture.vae->to(at::kCUDA);
  fixture.vae->to_channels_last();
  const auto device = at::Device(at::kCUDA);
  EXPECT_LE(difference(fixture.vae->encode(fixture.video(17)).cpu(), fixture.of(17, "latent")),
            kTolerance);
  const at::Tensor given = fixture.given(17).to(device);
  EXPECT_LE(difference(decode_all(fixture.vae, given).cpu(), fixture.of(17, "video")), kTolerance);
  EXPECT_LE(difference(whole_clip_video(fixture.vae, given).cpu(), fixture.of(17, "video")),
            kTolerance);
  const at::Tensor moments = fixture.vae->encode_clip(fixture.video(17).to(device, at::kBFloat16));
  fixture.vae->decode_clip(moments.narrow(1, 0, 16)).square().mean().backward();
  const at::Tensor latent = fixture.vae->normalise(moments.detach().narrow(1, 0, 16)).cpu();
  EXPECT_LE(mean_difference(latent, fixture.of(17, "latent")), 2e-2);
  EXPECT_TRUE(fixture.vae->encoder->conv1->weight.grad().isfinite().all().item<bool>());
}

// Planted mistakes, which the comparisons above must notice.

TEST(VaePlanted, OneForgottenHistoryIsNoticed) {
  VaeFixture fixture("wan");
  const torch::NoGradGuard no_grad;
  const at::Tensor z = at::randn({1, 16, 3, 2, 3});
  const at::Tensor whole = fixture.vae->decoder->forward(z, nullptr);
  for (const bool forget : {false, true}) {
    vae::Stream stream;
    std::vector<at::Tensor> pieces;
    for (int64_t frame = 0; frame < 3; ++frame) {
      if (forget && frame == 2) {
        stream.begin_piece();
        stream.next_history().zero_();
      }
      stream.begin_piece();
      pieces.push_back(fixture.vae->decoder->forward(z.narrow(2, frame, 1), &stream));
    }
    const double found = difference(at::cat(pieces, 2), whole);
    EXPECT_EQ(found > kTolerance, forget) << found;
  }
}

TEST(VaePlanted, SwappedFramesOfAPairAreNoticed) {
  VaeFixture fixture("wan");
  const torch::NoGradGuard no_grad;
  for (auto& parameter : fixture.vae->decoder->named_parameters()) {
    if (parameter.key().find("time_conv") != std::string::npos) {
      const auto halves = parameter.value().clone().chunk(2, 0);
      parameter.value().copy_(at::cat({halves[1], halves[0]}, 0));
    }
  }
  const at::Tensor video = decode_all(fixture.vae, fixture.given(17));
  EXPECT_LE(difference(video.narrow(2, 0, 1), fixture.of(17, "video").narrow(2, 0, 1)), kTolerance);
  EXPECT_GT(difference(video, fixture.of(17, "video")), kTolerance);
}

// Mirrored kernels, input and output swap left and right padding. The decoder pads both sides
// equally, the encoder's downsampling pads only on the right.
TEST(VaePlanted, PaddingOnTheWrongSideIsNoticed) {
  VaeFixture fixture("wan");
  const torch::NoGradGuard no_grad;
  for (at::Tensor& parameter : fixture.vae->parameters()) {
    if (parameter.dim() >= 4) {
      parameter.copy_(parameter.flip(-1));
    }
  }
  const at::Tensor video = decode_all(fixture.vae, fixture.given(17).flip(4)).flip(4);
  EXPECT_LE(difference(video, fixture.of(17, "video")), kTolerance);
  const at::Tensor latent = fixture.vae->encode(fixture.video(17).flip(4)).flip(4);
  EXPECT_GT(difference(latent, fixture.of(17, "latent")), kTolerance);
}

}  // namespace
}  // namespace ospnext
