// Casts of tensors give the codec's codes for any dtype, batch and number of threads.
#include "quant/hif8_tensors.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/torch/random.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

using hif8::Overflow;

at::Tensor random(at::IntArrayRef shape, uint64_t seed = 1) {
  return torch::randn(shape, seeded_generator(seed, "hif8 test"), torch::kFloat32);
}

uint8_t code(const at::Tensor& codes, int64_t i) {
  return codes.flatten().const_data_ptr<uint8_t>()[i];
}

// The codes of x·scale, computed one by one.
at::Tensor expected_codes(const at::Tensor& x, float scale, Overflow overflow) {
  const at::Tensor floats = x.to(torch::kFloat32).contiguous();
  at::Tensor codes = torch::empty(x.sizes(), torch::kUInt8);
  for (int64_t i = 0; i < x.numel(); ++i) {
    codes.mutable_data_ptr<uint8_t>()[i] =
        hif8::encode(floats.const_data_ptr<float>()[i] * scale, overflow);
  }
  return codes;
}

TEST(Hif8Tensors, EveryBf16PatternBecomesTheCodecsCode) {
  const at::Tensor all =
      torch::arange(-32768, 32768, torch::kInt32).to(torch::kInt16).view(torch::kBFloat16);
  for (const auto overflow : {Overflow::kInfinity, Overflow::kSaturate}) {
    for (const auto dtype : {at::kBFloat16, at::kFloat}) {
      const at::Tensor x = all.to(dtype);
      const at::Tensor codes = hif8::encode(x, {}, overflow);
      EXPECT_TRUE(torch::equal(codes, expected_codes(x, 1, overflow)));
      const at::Tensor values = hif8::code_values(x, {}, overflow);
      EXPECT_EQ(values.scalar_type(), dtype);
      EXPECT_TRUE(torch::equal(hif8::encode(values), codes)) << "values are exact in " << dtype;
      EXPECT_TRUE(
          torch::allclose(hif8::decode(codes, {}, dtype), values, 0, 0, /*equal_nan=*/true));
    }
  }
}

TEST(Hif8Tensors, EveryFp16PatternBecomesTheCodecsCode) {
  const at::Tensor x =
      torch::arange(-32768, 32768, torch::kInt32).to(torch::kInt16).view(torch::kHalf);
  const at::Tensor codes = hif8::encode(x);
  EXPECT_TRUE(torch::equal(codes, expected_codes(x, 1, Overflow::kInfinity)));
  EXPECT_TRUE(torch::equal(hif8::encode(hif8::code_values(x)), codes));
}

TEST(Hif8Tensors, ScaleIsAmaxToOverAmaxWithAFloor) {
  const at::Tensor x = random({3, 5, 7}) * 0.01;
  const at::Tensor amax = hif8::amax_of_tensor(x);
  EXPECT_EQ(amax.item<float>(), x.abs().max().item<float>());
  const at::Tensor scale = hif8::scale_to(15, amax);
  EXPECT_EQ(scale.item<float>(), 15.F / amax.item<float>());
  EXPECT_EQ(hif8::scale_to(224, amax).item<float>(), 224.F / amax.item<float>());
  EXPECT_EQ(hif8::scale_to(15, torch::zeros({2}))[1].item<float>(), 15.F / 1e-8F);

  const at::Tensor codes = hif8::encode(x, scale);
  EXPECT_TRUE(torch::equal(codes, expected_codes(x, scale.item<float>(), Overflow::kInfinity)));
  EXPECT_EQ(hif8::decode(codes).abs().max().item<float>(), 15);
  EXPECT_TRUE(torch::equal(hif8::decode(codes, scale), hif8::decode(codes) / scale));
  EXPECT_TRUE(torch::equal(hif8::encode(torch::zeros({4}), hif8::scale_to(15, torch::zeros({}))),
                           torch::zeros({4}, torch::kUInt8)));
}

TEST(Hif8Tensors, AmaxLooksAtMagnitudesAndKeepsNan) {
  EXPECT_EQ(hif8::amax_of_tensor(torch::tensor({1.F, -3.F, 2.F})).item<float>(), 3);
  EXPECT_EQ(hif8::amax_of_tensor(torch::tensor(-2.F)).item<float>(), 2);
  EXPECT_FALSE(std::signbit(hif8::amax_of_tensor(torch::tensor({-0.F})).item<float>()));
  EXPECT_TRUE(std::isnan(hif8::amax_of_tensor(torch::tensor({1.F, NAN})).item<float>()));
  const at::Tensor x = random({3, 4, 5, 6});
  EXPECT_TRUE(torch::equal(hif8::amax_of_samples(x), x.abs().flatten(1).amax(1)));
  EXPECT_TRUE(torch::equal(hif8::amax_of_samples(x.to(at::kBFloat16)),
                           x.to(at::kBFloat16).abs().flatten(1).amax(1).to(at::kFloat)));
}

TEST(Hif8Tensors, NoElementsAreNoTrouble) {
  for (const auto& shape : {std::vector<int64_t>{2, 0, 8}, {0, 4, 8}, {0}, {2, 4, 0}}) {
    const at::Tensor x = torch::empty(shape);
    EXPECT_EQ(hif8::amax_of_tensor(x).item<float>(), 0);
    EXPECT_EQ(hif8::amax_of_samples(x).sizes(), (at::IntArrayRef{shape[0]}));
    const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_samples(x));
    EXPECT_EQ(hif8::encode(x, scale).sizes(), x.sizes());
    EXPECT_EQ(hif8::round_samples(x).sizes(), x.sizes());
  }
}

// A sample's codes do not depend on the other samples, so guidance as one batch and as two passes
// is the same.
TEST(Hif8Tensors, CodesAreTheSameInABatchAndAlone) {
  const at::Tensor first = random({1, 6, 10}, 1), second = random({1, 6, 10}, 2) * 7;
  const at::Tensor both = torch::cat({first, second});
  const auto codes = [](const at::Tensor& x, const at::Tensor& amax) {
    return hif8::encode(x, hif8::scale_to(15, amax));
  };
  const at::Tensor alone = torch::cat(
      {codes(first, hif8::amax_of_samples(first)), codes(second, hif8::amax_of_samples(second))});
  EXPECT_TRUE(torch::equal(codes(both, hif8::amax_of_samples(both)), alone));
  EXPECT_FALSE(torch::equal(codes(both, hif8::amax_of_tensor(both)), alone));  // planted
  EXPECT_TRUE(torch::equal(hif8::round_samples(both)[1], hif8::round_samples(second)[0]));
}

TEST(Hif8Tensors, ManyThreadsAndStridesChangeNothing) {
  const at::Tensor x = random({3, 401, 257}).transpose(1, 2);  // enough for several threads
  const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_samples(x));
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = hif8::encode(x, scale);
  at::set_num_threads(3);
  const at::Tensor three = hif8::encode(x, scale);
  at::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(one, three));
  EXPECT_EQ(code(one[2][100], 7),
            hif8::encode(x[2][100][7].item<float>() * scale[2].item<float>()));
}

TEST(Hif8Tensors, WrongKindsAreRefused) {
  EXPECT_THROW(hif8::encode(torch::zeros({2}, torch::kFloat64)), c10::Error);
  EXPECT_THROW(hif8::decode(torch::zeros({2})), c10::Error);
  EXPECT_THROW(hif8::encode(torch::zeros({2, 3}), torch::ones({3})), c10::Error);
  EXPECT_THROW(hif8::encode(torch::zeros({2}), torch::ones({2}, torch::kFloat64)), c10::Error);
}

TEST(Hif8Tensors, E4m3OperandsAreWorthTheCodes) {
  const at::Tensor x = random({2, 40, 33});
  const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_samples(x));
  const at::Tensor operands = hif8::encode_e4m3(x, scale * 16).to(at::kFloat) / 16;
  const at::Tensor values = hif8::code_values(x, scale);
  EXPECT_LE((operands - values).abs().max().item<float>(), std::ldexp(1.F, -14));
  EXPECT_GT((operands == values).to(at::kFloat).mean().item<float>(), 0.99);
}

TEST(Hif8Tensors, InversesOfScalesComeInRowsOfFour) {
  const at::Tensor inverse = torch::empty({2, 4});
  const at::Tensor scale = hif8::scale_to(15, torch::tensor({3.F, 0.F}), inverse);
  EXPECT_TRUE(torch::equal(inverse, scale.reciprocal().unsqueeze(1).expand({2, 4})));
  EXPECT_TRUE(std::isnan(hif8::scale_to(15, torch::tensor({NAN})).item<float>()));
  EXPECT_THROW(hif8::scale_to(15, torch::ones({2}), torch::empty({3, 4})), c10::Error);
}

TEST(Hif8Tensors, OnAGpuAmaxAndRoundingAreTheSame) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no GPU";
  }
  for (const int64_t width : {40, 33}) {  // in vectors of eight, and one by one
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor x = (random({3, 700, width}) * 0.2).to(dtype), there = x.cuda();
      const at::Tensor amax = hif8::amax_of_samples(x);
      EXPECT_TRUE(torch::equal(hif8::amax_of_samples(there).cpu(), amax));
      EXPECT_EQ(hif8::amax_of_tensor(there).item<float>(), hif8::amax_of_tensor(x).item<float>());
      EXPECT_TRUE(torch::equal(hif8::round_samples(there).cpu(), hif8::round_samples(x)));
      const at::Tensor scale = hif8::scale_to(240, amax);
      const at::Tensor inverse = torch::empty({3, 4}, there.options().dtype(at::kFloat));
      EXPECT_TRUE(torch::equal(hif8::scale_to(240, amax.cuda(), inverse).cpu(), scale));
      EXPECT_TRUE(torch::equal(inverse.cpu(), scale.reciprocal().unsqueeze(1).expand({3, 4})));
      EXPECT_TRUE(torch::equal(hif8::encode_e4m3(there, scale.cuda()).cpu().to(at::kFloat),
                               hif8::encode_e4m3(x, scale).to(at::kFloat)));
    }
  }
  const at::Tensor with_nan = torch::tensor({1.F, NAN, INFINITY, -3.F}).cuda();
  EXPECT_TRUE(std::isnan(hif8::amax_of_tensor(with_nan).item<float>()));
}

TEST(Hif8Tensors, GpuGivesTheSameBits) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no GPU";
  }
  const at::Tensor patterns =
      torch::arange(-32768, 32768, torch::kInt32).to(torch::kInt16).view(torch::kBFloat16);
  const at::Tensor x =
      torch::cat({random({65536}).to(at::kBFloat16), patterns}).view({2, 256, 256});
  const at::Tensor scale = torch::tensor({3.7F, 1.F});
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto overflow : {Overflow::kInfinity, Overflow::kSaturate}) {
      const at::Tensor here = x.to(dtype), there = here.cuda();
      const at::Tensor codes = hif8::encode(here, scale, overflow);
      EXPECT_TRUE(torch::equal(hif8::encode(there, scale.cuda(), overflow).cpu(), codes));
      const auto same = [](const at::Tensor& a, const at::Tensor& b) {
        return torch::allclose(a.cpu(), b, 0, 0, /*equal_nan=*/true);
      };
      EXPECT_TRUE(same(hif8::code_values(there, scale.cuda(), overflow),
                       hif8::code_values(here, scale, overflow)));
      EXPECT_TRUE(
          same(hif8::decode(codes.cuda(), scale.cuda(), dtype), hif8::decode(codes, scale, dtype)));
    }
  }
}

}  // namespace
}  // namespace ospnext
