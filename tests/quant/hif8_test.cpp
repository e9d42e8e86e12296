// The HiFloat8 codec and its conversion to E4M3, against the tables of tools/make_hif8_fixtures.py.
#include "quant/hif8.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <set>

#include "core/torch/torch.h"
#include "io/weights.h"
#include "quant/e4m3.h"
#include "support/paths.h"

namespace ospnext {
namespace {

using hif8::Overflow;

constexpr float kInf = std::numeric_limits<float>::infinity();

const std::map<std::string, at::Tensor>& fixture() {
  static const auto tensors = read_tensors(fixture_path("hif8/codec.safetensors"));
  return tensors;
}

uint8_t code_at(const std::string& name, int64_t i) {
  return fixture().at(name).const_data_ptr<uint8_t>()[i];
}

float float_of(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

// The code of -x if `code` is the code of x >= 0.
uint8_t with_sign(uint8_t code) {
  return code == 0 || code == hif8::kNan ? code : code | 0x80;
}

uint8_t saturated(uint8_t code) {
  return code == hif8::kInfinity ? hif8::kLargest : code == hif8::kNan ? 0 : code;
}

// Encodes every bit pattern of a 16-bit type, with both signs and in both modes. Returns the number
// of wrong codes.
template <class ToFloat>
int64_t mistakes(const std::string& name, ToFloat&& to_float) {
  int64_t count = 0;
  for (uint32_t pattern = 0; pattern < 0x8000; ++pattern) {
    const uint8_t expected = code_at(name, pattern);
    const float plus = to_float(static_cast<uint16_t>(pattern));
    const float minus = to_float(static_cast<uint16_t>(pattern | 0x8000));
    count += hif8::encode(plus) != expected;
    count += hif8::encode(minus) != with_sign(expected);
    count += hif8::encode(plus, Overflow::kSaturate) != saturated(expected);
    count += hif8::encode(minus, Overflow::kSaturate) != with_sign(saturated(expected));
  }
  return count;
}

float bf16_to_float(uint16_t pattern) {
  return float_of(static_cast<uint32_t>(pattern) << 16);
}

float fp16_to_float(uint16_t pattern) {
  return static_cast<float>(at::Half(pattern, at::Half::from_bits()));
}

TEST(Hif8, DecodesAll256Codes) {
  const at::Tensor values = fixture().at("values");
  for (int code = 0; code < 256; ++code) {
    const double expected = values[code].item<double>();
    const double found = hif8::decode(static_cast<uint8_t>(code));
    if (std::isnan(expected)) {
      EXPECT_EQ(code, hif8::kNan);
      EXPECT_TRUE(std::isnan(found));
    } else {
      EXPECT_EQ(found, expected) << code;
      EXPECT_FALSE(found == 0 && std::signbit(found));
    }
  }
}

TEST(Hif8, AnchorsAreWhereThePaperHasThem) {
  static_assert(hif8::decode(0x01) == 0x1p-22F && hif8::decode(0x07) == 0x1p-16F);
  static_assert(hif8::decode(0x7E) == 0x1p-15F && hif8::decode(0x7F) == 1.5F * 0x1p-15F);
  static_assert(hif8::decode(0x08) == 1 && hif8::decode(0x0F) == 1.875F);
  static_assert(hif8::decode(0x10) == 2 && hif8::decode(0x18) == 0.5F);
  static_assert(hif8::decode(0x20) == 4 && hif8::decode(0x28) == 8);
  static_assert(hif8::decode(0x30) == 0.25F && hif8::decode(0x38) == 0.125F);
  static_assert(hif8::decode(0x40) == 16 && hif8::decode(0x4C) == 128);
  static_assert(hif8::decode(0x50) == 0x1p-4F && hif8::decode(0x70) == 0x1p-8F);
  static_assert(hif8::decode(0x60) == 256 && hif8::decode(0x6E) == 32768);
  static_assert(hif8::decode(0x6F) == kInf && hif8::decode(0xEF) == -kInf);
}

TEST(Hif8, EveryValueEncodesToItsCodeAndRoundsToItself) {
  std::set<uint32_t> distinct;
  for (int i = 0; i < 256; ++i) {
    const auto code = static_cast<uint8_t>(i);
    const float value = hif8::decode(code);
    EXPECT_EQ(hif8::encode(value), code);  // also NaN: 0x80
    EXPECT_EQ(std::bit_cast<uint32_t>(hif8::round(value)), std::bit_cast<uint32_t>(value));
    distinct.insert(std::bit_cast<uint32_t>(value));
  }
  EXPECT_EQ(distinct.size(), 256U);  // 252 finite ones, zero, two infinities, NaN
}

TEST(Hif8, EveryBf16AndFp16InputFindsTheNearestValue) {
  EXPECT_EQ(mistakes("bf16", bf16_to_float), 0);
  EXPECT_EQ(mistakes("fp16", fp16_to_float), 0);
}

// Planted mistakes: ties not rounded away from zero, and the older rule that 2^-23 becomes 0.
TEST(Hif8, TheTablesNoticePlantedMistakes) {
  const auto nudged = [](float x) { return x * (1 - 0x1p-23F); };  // below every tie
  EXPECT_GT(mistakes("bf16", [&](uint16_t p) { return nudged(bf16_to_float(p)); }), 100);
  const auto flushed = [](float x) { return std::fabs(x) == 0x1p-23F ? 0 : x; };
  EXPECT_EQ(mistakes("bf16", [&](uint16_t p) { return flushed(bf16_to_float(p)); }), 4);
}

TEST(Hif8, FloatEdgesAndTheirNeighboursFindTheNearestValue) {
  const at::Tensor edges = fixture().at("edges");
  int64_t wrong = 0;
  for (int64_t i = 0; i < edges.numel(); ++i) {
    const float x = edges.const_data_ptr<float>()[i];
    wrong += hif8::encode(x) != code_at("edges.to_infinity", i);
    wrong += hif8::encode(x, Overflow::kSaturate) != code_at("edges.saturating", i);
    for (const Overflow mode : {Overflow::kInfinity, Overflow::kSaturate}) {
      const float by_code = hif8::decode(hif8::encode(x, mode));
      wrong += std::bit_cast<uint32_t>(hif8::round(x, mode)) != std::bit_cast<uint32_t>(by_code);
    }
  }
  EXPECT_GT(edges.numel(), 1500);
  EXPECT_EQ(wrong, 0);
}

TEST(Hif8, TheShortRoundingForE4m3IsTheSame) {
  for (uint32_t high = 0; high <= 0xFFFF; ++high) {
    for (const uint32_t low : {0x0000U, 0x0001U, 0x8000U, 0xFFFFU}) {
      const float x = std::bit_cast<float>(high << 16 | low);
      const float size = std::abs(x);
      if (size >= 0x1p-15F && size <= 28) {
        ASSERT_EQ(hif8::round_for_e4m3(16 * x), 16 * hif8::round(x)) << x;
      } else if (size < 0x1p-15F) {  // becomes 0 in E4M3 with both roundings
        ASSERT_LE(std::abs(hif8::round_for_e4m3(16 * x)), 0x1p-11F) << x;
      }
    }
  }
}

TEST(Hif8, EndsOfTheRange) {
  EXPECT_EQ(hif8::encode(40959.996F), 0x6E);
  EXPECT_EQ(hif8::encode(40960), 0x6F);
  EXPECT_EQ(hif8::encode(-40960), 0xEF);
  EXPECT_EQ(hif8::encode(49152), 0x6F);
  EXPECT_EQ(hif8::encode(49152, Overflow::kSaturate), 0x6E);
  EXPECT_EQ(hif8::encode(-kInf, Overflow::kSaturate), 0xEE);
  EXPECT_EQ(hif8::encode(0x1p-23F), 0x01);
  EXPECT_EQ(hif8::encode(std::nextafter(0x1p-23F, 0.F)), 0x00);
  EXPECT_EQ(hif8::encode(-std::nextafter(0x1p-23F, 0.F)), 0x00);  // never 0x80, which is NaN
  EXPECT_EQ(hif8::encode(-0.F), 0x00);
  EXPECT_EQ(hif8::encode(15.5F), 0x40);
  EXPECT_EQ(hif8::encode(1.9375F), 0x10);
  EXPECT_EQ(hif8::encode(-NAN), 0x80);
  EXPECT_EQ(hif8::encode(-NAN, Overflow::kSaturate), 0x00);
}

TEST(E4m3, DecodesAsTorchDoes) {
  for (int i = 0; i < 256; ++i) {
    const auto code = static_cast<uint8_t>(i);
    const float expected =
        static_cast<float>(at::Float8_e4m3fn(code, at::Float8_e4m3fn::from_bits()));
    const float found = e4m3::decode(code);
    EXPECT_TRUE(found == expected || (std::isnan(found) && std::isnan(expected))) << i;
  }
}

TEST(E4m3, EveryHif8CodeBecomesTheNearestE4m3Code) {
  for (const int shift : {e4m3::kForwardShift, e4m3::kBackwardShift}) {
    int64_t wrong = 0;
    for (int code = 0; code < 256; ++code) {
      wrong += e4m3::from_hif8(static_cast<uint8_t>(code), shift) !=
               code_at("e4m3_" + std::to_string(shift), code);
    }
    EXPECT_EQ(wrong, 0) << shift;
    EXPECT_NE(e4m3::from_hif8(0x7D, shift), code_at("e4m3_" + std::to_string(5 - shift), 0x7D));
  }
}

// The positive codes up to `largest` that E4M3 does not represent exactly, and the largest error.
struct Inexact {
  std::set<int> codes;
  double worst = 0;
};

Inexact inexact(int shift, float largest) {
  Inexact found;
  for (int i = 0; i < 256; ++i) {
    const auto code = static_cast<uint8_t>(i);
    const double value = hif8::decode(code);
    if (!(std::fabs(value) <= largest) || e4m3::is_exact(code, shift)) {
      continue;
    }
    EXPECT_FALSE(e4m3::is_exact(code ^ 0x80, shift));  // both signs
    found.codes.insert(code & 0x7F);
    const double held = std::ldexp(e4m3::decode(e4m3::from_hif8(code, shift)), -shift);
    found.worst = std::max(found.worst, std::fabs(held - value));
  }
  return found;
}

TEST(E4m3, HoldsAllButTheSmallestCodes) {
  const Inexact forward = inexact(e4m3::kForwardShift, 15);
  EXPECT_EQ(forward.codes, (std::set<int>{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x7B, 0x7C,
                                          0x7D, 0x7E, 0x7F}));
  EXPECT_EQ(forward.worst, 0x1p-14);
  EXPECT_TRUE(e4m3::is_exact(0x78, 4) && e4m3::is_exact(0x7A, 4));  // 2^-12 and 2^-13

  const Inexact backward = inexact(e4m3::kBackwardShift, 224);
  EXPECT_EQ(backward.codes.size(), 18U);
  EXPECT_EQ(backward.worst, 0x1p-11);
  for (const int code : backward.codes) {
    EXPECT_LT(hif8::decode(static_cast<uint8_t>(code)), 0x1p-9F);
  }
  EXPECT_TRUE(e4m3::is_exact(0x74, 1));  // 2^-10
  EXPECT_TRUE(e4m3::is_exact(0x4F, 1));  // 224
  EXPECT_FALSE(e4m3::is_exact(0x60, 1));
}

}  // namespace
}  // namespace ospnext
