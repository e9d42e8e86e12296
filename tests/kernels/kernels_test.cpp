// Every kernel and its gradient against the equation in plain fp64 operators.
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "core/torch/random.h"
#include "core/torch/torch.h"
#include "kernels/attention.h"
#include "kernels/modulate.h"
#include "kernels/norm.h"
#include "kernels/permute_tokens.h"
#include "kernels/rotate_pairs.h"
#include "support/compare.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

constexpr double kFloatTolerance = 1e-6;  // of the largest value, for a few fp32 operations
constexpr double kEps = 1e-6;

at::Tensor draw(at::IntArrayRef shape, const char* purpose) {
  return at::randn(shape, seeded_generator(3, purpose));
}

using Inputs = std::vector<at::Tensor>;
using Operation = std::function<at::Tensor(const Inputs&)>;

Inputs cast(const Inputs& inputs, at::ScalarType dtype, const std::vector<size_t>& which) {
  Inputs out = inputs;
  for (const size_t i : which) {
    out[i] = inputs[i].to(dtype);
  }
  return out;
}

Inputs gradients(const Operation& operation, const Inputs& inputs) {
  Inputs leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.detach().clone().requires_grad_());
  }
  const at::Tensor out = operation(leaves);
  const at::Tensor weight = draw(out.sizes(), "gradient").to(out.options());
  return torch::autograd::grad({out}, leaves, {weight});
}

Inputs moved(Inputs inputs, at::Device device) {
  for (at::Tensor& input : inputs) {
    input = input.to(device);
  }
  return inputs;
}

// Expects that outputs and gradients of `kernel` in fp32 on `device` equal those of `reference` in
// fp64. Also expects that the kernel with the inputs `narrow` in bf16 and the others in fp32, as in
// the model, has at most twice the error of `reference` with all inputs in bf16.
void expect_agreement(at::Device device, const Operation& kernel, const Operation& reference,
                      const Inputs& inputs, const std::vector<size_t>& narrow) {
  std::vector<size_t> all(inputs.size());
  std::iota(all.begin(), all.end(), 0);
  const Inputs exact = cast(inputs, at::kDouble, all);
  const at::Tensor expected = reference(exact);
  EXPECT_LE(relative_max(kernel(moved(inputs, device)), expected), kFloatTolerance);
  const Inputs expected_gradients = gradients(reference, exact);
  const Inputs actual_gradients = gradients(kernel, moved(inputs, device));
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LE(relative_max(actual_gradients[i], expected_gradients[i]), 4 * kFloatTolerance) << i;
  }

  const Inputs plain = cast(inputs, at::kBFloat16, all);
  const Inputs mixed = moved(cast(inputs, at::kBFloat16, narrow), device);
  EXPECT_EQ(kernel(mixed).scalar_type(), at::kBFloat16);
  EXPECT_LE(relative_l2(kernel(mixed), expected), 2 * relative_l2(reference(plain), expected));
  const Inputs mixed_gradients = gradients(kernel, mixed);
  const Inputs plain_gradients = gradients(reference, plain);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LE(relative_l2(mixed_gradients[i], expected_gradients[i]),
              2 * relative_l2(plain_gradients[i], expected_gradients[i]))
        << i;
  }
}

class Kernels : public OnDevice {};
INSTANTIATE_ON_DEVICES(Kernels);

at::Tensor plain_layer_norm(const at::Tensor& x) {
  const auto centred = x - x.mean(-1, true);
  return centred / (centred.square().mean(-1, true) + kEps).sqrt();
}

TEST_P(Kernels, LayerNormModulateMatchesItsEquation) {
  expect_agreement(
      device(), [](const Inputs& in) { return layer_norm_modulate(in[0], in[1], in[2], kEps); },
      [](const Inputs& in) { return plain_layer_norm(in[0]) * (1 + in[2]) + in[1]; },
      {draw({2, 7, 24}, "x"), draw({2, 1, 24}, "shift"), draw({2, 1, 24}, "scale")}, {0});
}

TEST_P(Kernels, LayerNormModulateHandlesASingleToken) {
  expect_agreement(
      device(), [](const Inputs& in) { return layer_norm_modulate(in[0], in[1], in[2], kEps); },
      [](const Inputs& in) { return plain_layer_norm(in[0]) * (1 + in[2]) + in[1]; },
      {draw({2, 1, 24}, "x"), draw({2, 1, 24}, "shift"), draw({2, 1, 24}, "scale")}, {0});
}

// Rows shared by a warp or by a whole block, in one and in several vectors a thread.
TEST_P(Kernels, ModulationMatchesItsEquationsAtEveryWidth) {
  for (const int64_t C : {256, 264, 520, 1536, 4104, 5120}) {
    SCOPED_TRACE(C);
    expect_agreement(
        device(), [](const Inputs& in) { return layer_norm_modulate(in[0], in[1], in[2], kEps); },
        [](const Inputs& in) { return plain_layer_norm(in[0]) * (1 + in[2]) + in[1]; },
        {draw({2, 70, C}, "x"), draw({2, 1, C}, "shift"), draw({2, 1, C}, "scale")}, {0});
    expect_agreement(
        device(), [](const Inputs& in) { return add_gated(in[0], in[1], in[2]); },
        [](const Inputs& in) { return in[0] + in[1] * in[2]; },
        {draw({2, 70, C}, "x"), draw({2, 70, C}, "y"), draw({2, 1, C}, "gate")}, {0, 1});
  }
}

TEST_P(Kernels, AddGatedMatchesItsEquation) {
  expect_agreement(
      device(), [](const Inputs& in) { return add_gated(in[0], in[1], in[2]); },
      [](const Inputs& in) { return in[0] + in[1] * in[2]; },
      {draw({2, 5, 16}, "x"), draw({2, 5, 16}, "y"), draw({2, 1, 16}, "gate")}, {0, 1});
}

// Widths for half a warp, for a warp, and for two vectors per thread, and one that the kernel does
// not take. The last block is not full, and samples are not contiguous in the output.
TEST_P(Kernels, RmsNormSiluMatchesItsEquation) {
  for (const int64_t C : {8, 40, 96, 192, 384, 520}) {
    SCOPED_TRACE(C);
    const at::Tensor x = draw({2, 131, C}, "x"), weight = draw({C}, "weight");
    const auto found = [&](at::ScalarType dtype) {
      const at::Tensor room = at::full({2, 140, C}, 7, at::TensorOptions(dtype).device(device()));
      at::Tensor out = room.narrow(1, 9, 131);
      rms_norm_silu_out(out, x.to(device(), dtype), weight.to(device()), kEps);
      EXPECT_TRUE(room.narrow(1, 0, 9).eq(7).all().item<bool>());
      return out;
    };
    const auto plain = [&](at::ScalarType dtype) {
      const at::Tensor wide = x.to(dtype);
      const at::Tensor length = (wide.square().mean(-1, true) + kEps).sqrt();
      return at::silu(wide / length * weight.to(dtype));
    };
    const at::Tensor expected = plain(at::kDouble);
    EXPECT_LE(relative_max(found(at::kFloat), expected), kFloatTolerance);
    EXPECT_LE(relative_l2(found(at::kBFloat16), expected),
              2 * relative_l2(plain(at::kBFloat16), expected));
  }
}

TEST_P(Kernels, RmsNormMatchesItsEquation) {
  expect_agreement(
      device(), [](const Inputs& in) { return rms_norm(in[0], in[1], kEps); },
      [](const Inputs& in) {
        return in[0] / (in[0].square().mean(-1, true) + kEps).sqrt() * in[1];
      },
      {draw({2, 5, 32}, "x"), draw({32}, "weight")}, {0});
}

TEST_P(Kernels, LayerNormMatchesItsEquation) {
  expect_agreement(
      device(), [](const Inputs& in) { return layer_norm(in[0], in[1], in[2], kEps); },
      [](const Inputs& in) { return plain_layer_norm(in[0]) * in[1] + in[2]; },
      {draw({2, 5, 32}, "x"), draw({32}, "weight"), draw({32}, "bias")}, {0});
}

TEST_P(Kernels, RotatePairsTurnsEveryPairByItsAngle) {
  const at::Tensor angles = draw({6, 4}, "angles") * 3;  // [L, D/2]
  const at::Tensor rotation = at::polar(at::ones_like(angles), angles);
  const auto reference = [&](const Inputs& in) {
    const auto cos = angles.to(in[0].scalar_type()).cos().unsqueeze(1);
    const auto sin = angles.to(in[0].scalar_type()).sin().unsqueeze(1);
    const auto even = in[0].slice(3, 0, at::nullopt, 2), odd = in[0].slice(3, 1, at::nullopt, 2);
    return at::stack({even * cos - odd * sin, even * sin + odd * cos}, -1).flatten(3);
  };
  expect_agreement(
      device(), [&](const Inputs& in) { return rotate_pairs(in[0], rotation.to(in[0].device())); },
      reference, {draw({2, 6, 3, 8}, "x")}, {0});
}

// Rows shared by a warp or by a whole block, in one and in several vectors a thread; heads of 8 and
// more.
TEST_P(Kernels, RmsNormRotateIsTheNormOverAllHeadsThenTheRotation) {
  struct Size {
    int64_t L, C, D;
  };
  for (const Size size : {Size{6, 24, 8},
                          {70, 256, 128},
                          {5, 264, 8},
                          {1, 520, 40},
                          {33, 1536, 128},
                          {5, 2304, 128},
                          {9, 5120, 128},
                          {3, 24, 4}}) {
    SCOPED_TRACE(size.C);
    const int64_t L = size.L, C = size.C, D = size.D;
    const at::Tensor angles = draw({L, D / 2}, "angles") * 3;
    const at::Tensor rotation = at::polar(at::ones_like(angles), angles);
    expect_agreement(
        device(),
        [&](const Inputs& in) {
          return rms_norm_rotate(in[0], in[1], rotation.to(in[0].device()), kEps);
        },
        [&](const Inputs& in) {
          const auto normal = in[0] / (in[0].square().mean(-1, true) + kEps).sqrt() * in[1];
          const auto pairs = normal.view({2, L, C / D, D / 2, 2});
          const auto cos = angles.to(in[0].scalar_type()).cos().unsqueeze(1);
          const auto sin = angles.to(in[0].scalar_type()).sin().unsqueeze(1);
          const auto even = pairs.select(4, 0), odd = pairs.select(4, 1);
          return at::stack({even * cos - odd * sin, even * sin + odd * cos}, -1).view({2, L, C});
        },
        {draw({2, L, C}, "x"), draw({C}, "weight")}, {0});
  }
}

TEST_P(Kernels, GatherTokensPicksRows) {
  const at::Tensor index = at::tensor({5, 0, 5, 36, 1}, at::kLong);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const int64_t C : {3, 8, 64, 5120}) {
      SCOPED_TRACE(C);
      const at::Tensor x = draw({2, 37, C}, "x").to(dtype);
      const at::Tensor out = gather_tokens(x.to(device()), index.to(device()));
      EXPECT_TRUE(at::equal(out.cpu(), at::stack({x.select(1, 5), x.select(1, 0), x.select(1, 5),
                                                  x.select(1, 36), x.select(1, 1)},
                                                 1)));
      EXPECT_EQ(gather_tokens(x.to(device()), index.narrow(0, 0, 0).to(device())).sizes(),
                (at::IntArrayRef{2, 0, C}));
    }
  }
}

TEST(PermuteTokens, IsUndoneByTheInverseAndPermutesTheGradientBack) {
  const at::Tensor index = at::randperm(11, seeded_generator(1, "permutation"));
  const at::Tensor inverse = index.argsort();
  const at::Tensor x = draw({2, 11, 3}, "x").requires_grad_();
  const at::Tensor y = permute_tokens(x, index, inverse);
  EXPECT_TRUE(at::equal(y, x.index_select(1, index)));
  EXPECT_TRUE(at::equal(permute_tokens(y, inverse, index), x));
  const at::Tensor weight = draw({2, 11, 3}, "gradient");
  const auto gradient = torch::autograd::grad({y}, {x}, {weight})[0];
  EXPECT_TRUE(at::equal(gradient, weight.index_select(1, inverse)));
}

// Attention of q, k, v [B, L, H, D] inside segments of these lengths, by a mask over all pairs of
// tokens.
Operation masked_attention(const std::vector<int64_t>& lengths) {
  return [lengths](const Inputs& in) {
    std::vector<at::Tensor> blocks;
    for (const int64_t length : lengths) {
      blocks.push_back(at::ones({length, length}));
    }
    const auto logits = at::einsum("blhd,bmhd->bhlm", {in[0], in[1]}) / std::sqrt(in[0].size(3));
    const auto shares = logits.masked_fill(at::block_diag(blocks) == 0, -INFINITY).softmax(-1);
    return at::einsum("bhlm,bmhd->blhd", {shares, in[2]});
  };
}

TEST_P(Kernels, SegmentedAttentionStaysInsideSegments) {
  const std::vector<std::vector<int64_t>> cases{{12}, {4, 4, 4}, {6, 3, 3, 1}, {0, 9, 0, 4}};
  for (const auto& lengths : cases) {
    const int64_t L = std::reduce(lengths.begin(), lengths.end());
    expect_agreement(
        device(),
        [&](const Inputs& in) { return segmented_attention(in[0], in[1], in[2], lengths); },
        masked_attention(lengths),
        {draw({2, L, 3, 8}, "q"), draw({2, L, 3, 8}, "k"), draw({2, L, 3, 8}, "v")}, {0, 1, 2});
  }
}

TEST_P(Kernels, AttentionCountsKeysByTheirWeights) {
  const at::Tensor log_weight =
      at::tensor({0.0, -1.25, 3.5, 0.0, 0.75, 6.125, 0.0, -2.0}, at::kFloat);
  expect_agreement(
      device(),
      [&](const Inputs& in) {
        return attention(in[0], in[1], in[2], log_weight.to(in[0].device()));
      },
      [&](const Inputs& in) {
        const auto products =
            at::einsum("blhd,bmhd->bhlm", {in[0], in[1]}) / std::sqrt(in[0].size(3));
        const auto counts = log_weight.to(in[0].scalar_type()).exp() * products.exp();
        return at::einsum("bhlm,bmhd->blhd", {counts / counts.sum(-1, true), in[2]});
      },
      {draw({2, 5, 3, 8}, "q"), draw({2, 8, 3, 8}, "k"), draw({2, 8, 3, 8}, "v")}, {0, 1, 2});
  const at::Tensor q = draw({1, 4, 2, 8}, "q").to(device());
  EXPECT_THROW(attention(q, q, q, log_weight.to(device())), c10::Error);
}

TEST(SegmentedAttention, RefusesLengthsThatDoNotAddUp) {
  const at::Tensor x = draw({1, 4, 1, 8}, "x");
  EXPECT_THROW(segmented_attention(x, x, x, {2, 3}), c10::Error);
}

TEST(SegmentedAttention, AgreementFailsWhenASegmentLeaks) {
  const Inputs in{draw({1, 8, 2, 8}, "q"), draw({1, 8, 2, 8}, "k"), draw({1, 8, 2, 8}, "v")};
  EXPECT_GT(relative_max(attention(in[0], in[1], in[2]), masked_attention({4, 4})(in)),
            1000 * kFloatTolerance);
}

}  // namespace
}  // namespace ospnext
