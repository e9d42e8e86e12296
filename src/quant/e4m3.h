// HiF8 codes as E4M3 operands of FP8 tensor cores, and which codes E4M3 represents exactly.
//
// E4M3 (the variant without infinity) has 3 mantissa bits from 2^-6 to 448 and steps of 2^-9 below
// 2^-6. It represents a HiF8 value times 2^shift exactly if the product is in its range and a
// multiple of 2^-9. With values scaled to 15 and shift 4, or to 224 and shift 1, no product is
// above 448, and only the smallest values are not exact. docs/hif8.md lists them.
#pragma once

#include <cstdint>

#include "quant/hif8.h"

namespace ospnext::e4m3 {

inline constexpr uint8_t kNan = 0x7F;
inline constexpr uint8_t kLargest = 0x7E;  // 448
inline constexpr int kForwardShift = 4;    // for tensors scaled to 15: 15·2^4 = 240
inline constexpr int kBackwardShift = 1;   // for gradients, scaled to 224: 224·2 = 448

// The exact value of a code.
OSPNEXT_HOST_DEVICE constexpr float decode(uint8_t code) {
  const uint32_t sign = (code & 0x80U) << 24;
  const uint32_t exponent = code >> 3 & 15;
  const uint32_t mantissa = code & 7;
  if ((code & 0x7F) == kNan) {
    return __builtin_bit_cast(float, hif8::bits::kNan);
  }
  if (exponent == 0) {
    const float steps = static_cast<float>(mantissa) / 512;
    return sign != 0 ? -steps : steps;
  }
  return __builtin_bit_cast(float, sign | (exponent + 120) << 23 | mantissa << 20);
}

// The code nearest to the value of a HiF8 code times 2^shift. Ties go to the even code, as in the
// conversion instructions of GPUs. Larger magnitudes and infinity become ±448, NaN becomes 0x7F.
// 0 <= shift <= 8.
OSPNEXT_HOST_DEVICE constexpr uint8_t from_hif8(uint8_t code, int shift) {
  const uint32_t value = hif8::bits::value_of(code);
  const uint32_t sign = value >> 24 & 0x80;
  const uint32_t magnitude = value & ~hif8::bits::kSign;
  if (code == hif8::kNan) {
    return kNan;
  }
  if (magnitude == 0) {
    return 0;
  }
  // A HiF8 mantissa has at most 3 bits, so only values below 2^-6 are rounded.
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + shift;
  const uint32_t significand = 8 | (magnitude >> 20 & 7);  // in eighths
  if (magnitude == hif8::bits::kInfinity || exponent > 8 || (exponent == 8 && significand > 14)) {
    return static_cast<uint8_t>(sign | kLargest);
  }
  if (exponent >= -6) {
    return static_cast<uint8_t>(sign | static_cast<uint32_t>(exponent + 7) << 3 |
                                (significand & 7));
  }
  const int cut = -6 - exponent;  // the value is significand / 2^cut steps of 2^-9
  if (cut > 4) {
    return static_cast<uint8_t>(sign);
  }
  const uint32_t steps = significand >> cut;
  const uint32_t rest = significand & ((1U << cut) - 1);
  const uint32_t half = 1U << (cut - 1);
  const bool up = rest > half || (rest == half && (steps & 1) != 0);
  return static_cast<uint8_t>(sign | (steps + (up ? 1 : 0)));
}

// Whether from_hif8() is exact: its value equals the value of the HiF8 code times 2^shift. NaN
// counts as exact.
OSPNEXT_HOST_DEVICE constexpr bool is_exact(uint8_t code, int shift) {
  if (code == hif8::kNan) {
    return true;
  }
  return decode(from_hif8(code, shift)) ==
         hif8::decode(code) * static_cast<float>(uint32_t{1} << shift);
}

}  // namespace ospnext::e4m3
