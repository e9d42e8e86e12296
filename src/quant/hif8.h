// HiFloat8, an 8-bit float with tapered precision: conversion of float32 bit patterns to codes and
// back.
//
// A code is sign | dot | exponent | mantissa. The dot field is a prefix code that gives the number
// of exponent bits; the mantissa has the remaining bits. |x| = 2^E·(1 + M/2^m), with exponent E and
// mantissa M of m bits:
//
//   dot   |E|        m  positive codes, E > 0 and E < 0
//   0001  0          3  08-0F
//   001   1          3  10-17   18-1F
//   01    2, 3       3  20-2F   30-3F
//   10    4 to 7     2  40-4F   50-5F
//   11    8 to 15    1  60-6E   70-7F   (6F, instead of 1.5·2^15, is infinity)
//   0000  -22..-16   0  01-07; 00 is zero, and 80, instead of -0, is NaN
//
// Uses neither torch nor functions of the standard library, so it compiles for host and device.
// Source: arXiv 2409.16626.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define OSPNEXT_HOST_DEVICE __host__ __device__
#else
#define OSPNEXT_HOST_DEVICE
#endif

namespace ospnext::hif8 {

// How values above the largest finite value, 2^15, and NaN are rounded.
enum class Overflow {
  kInfinity,  // |x| >= 40,960 becomes ±infinity; NaN stays NaN
  kSaturate,  // larger values and ±infinity become ±2^15; NaN becomes 0
};

inline constexpr uint8_t kNan = 0x80;
inline constexpr uint8_t kInfinity = 0x6F;  // 0xEF is -infinity
inline constexpr uint8_t kLargest = 0x6E;   // 2^15

namespace bits {  // bit patterns of float32

inline constexpr uint32_t kSign = 0x80000000U;
inline constexpr uint32_t kInfinity = 0x7F800000U;
inline constexpr uint32_t kNan = 0x7FC00000U;

// 2^exponent, which must be a normal number.
OSPNEXT_HOST_DEVICE constexpr uint32_t power_of_two(int exponent) {
  return static_cast<uint32_t>(exponent + 127) << 23;
}

// All bits set if `condition` holds, else 0. Choices by mask need no branch, so loops can be
// vectorised.
OSPNEXT_HOST_DEVICE constexpr uint32_t mask(bool condition) {
  return 0U - static_cast<uint32_t>(condition);
}

OSPNEXT_HOST_DEVICE constexpr uint32_t choose(bool condition, uint32_t yes, uint32_t no) {
  return no ^ ((yes ^ no) & mask(condition));
}

// Whether a positive number is in [2^-n, 2^(n+1)), that is, |E| <= n.
OSPNEXT_HOST_DEVICE constexpr bool exponent_within(uint32_t magnitude, int n) {
  return magnitude - power_of_two(-n) < power_of_two(n + 1) - power_of_two(-n);
}

// A mask of the bits below the last mantissa bit, for |E| <= 15: 20 bits for a mantissa of 3 bits,
// and one more for each mantissa bit less.
OSPNEXT_HOST_DEVICE constexpr uint32_t below_mantissa(uint32_t magnitude) {
  return 0xFFFFFU | (0x100000U & mask(!exponent_within(magnitude, 3))) |
         (0x300000U & mask(!exponent_within(magnitude, 7)));
}

// The nearest HiF8 value as float32 bits. Ties go away from zero. Never -0.
OSPNEXT_HOST_DEVICE constexpr uint32_t round(uint32_t x, Overflow overflow) {
  constexpr uint32_t kSlotOfInfinity = power_of_two(15) | 0x400000U;  // 1.5·2^15
  const bool saturate = overflow == Overflow::kSaturate;
  const uint32_t magnitude = x & ~kSign;
  const uint32_t below =
      below_mantissa(magnitude) | (0x700000U & mask(!exponent_within(magnitude, 15)));
  // Adds half of the last mantissa bit and clears the bits below it. A carry raises the exponent.
  uint32_t rounded = (magnitude + (below >> 1) + 1) & ~below;
  rounded = choose(magnitude < power_of_two(-22), power_of_two(-22), rounded);
  rounded &= mask(magnitude >= power_of_two(-23));  // halfway from 0 to 2^-22
  rounded = choose(rounded >= kSlotOfInfinity, saturate ? power_of_two(15) : kInfinity, rounded);
  rounded |= x & kSign & mask(rounded != 0);
  return choose(magnitude > kInfinity, saturate ? 0U : kNan, rounded);
}

// The code of a HiF8 value that round() returned.
OSPNEXT_HOST_DEVICE constexpr uint8_t code_of(uint32_t value) {
  const uint32_t magnitude = value & ~kSign;
  const uint32_t exponent = (magnitude >> 23) - 127;
  const uint32_t negative = mask((exponent & kSign) != 0);
  const uint32_t size = (exponent ^ negative) - negative;  // |E|
  const uint32_t mantissa = magnitude >> 20 & 7;
  // |E| and the mantissa joined, plus an offset to the first code of the band, plus another offset
  // for negative exponents.
  uint32_t code = (size << 3 | mantissa) + 0x10 + (0x10 & negative);
  code = choose(size >= 4, (size << 2 | mantissa >> 1) + 0x30 + (0x10 & negative), code);
  code = choose(size >= 8, (size << 1 | mantissa >> 2) + 0x50 + (0x10 & negative), code);
  code = choose(size == 1, mantissa + 0x10 + (0x08 & negative), code);
  code = choose(size == 0, mantissa + 0x08, code);
  code = choose(magnitude < power_of_two(-15), exponent + 23, code);
  code = choose(magnitude == kInfinity, hif8::kInfinity, code);
  code = (code | (value >> 24 & 0x80)) & mask(magnitude != 0);
  return static_cast<uint8_t>(choose(magnitude > kInfinity, hif8::kNan, code));
}

// The exact value of a code, as float32 bits.
OSPNEXT_HOST_DEVICE constexpr uint32_t value_of(uint8_t code) {
  const uint32_t sign = (code & 0x80U) << 24;
  const int c = code & 0x7F;
  if (c == 0) {
    return code == hif8::kNan ? kNan : 0U;
  }
  if (c == hif8::kInfinity) {
    return sign | kInfinity;
  }
  if (c < 0x08) {  // no mantissa: each code is the next power of two
    return sign | power_of_two(c - 23);
  }
  const int mantissa_bits = c < 0x40 ? 3 : (c < 0x60 ? 2 : 1);
  // |E| is an implied leading 1 followed by the exponent bits without their sign.
  const int size = c < 0x10   ? 0
                   : c < 0x20 ? 1
                   : c < 0x40 ? 2 + (c >> 3 & 1)
                   : c < 0x60 ? 4 + (c >> 2 & 3)
                              : 8 + (c >> 1 & 7);
  const bool negative = c >= 0x10 && (c & (c < 0x20 ? 0x08 : 0x10)) != 0;
  const uint32_t mantissa = static_cast<uint32_t>(c & ((1 << mantissa_bits) - 1));
  return sign | power_of_two(negative ? -size : size) | mantissa << (23 - mantissa_bits);
}

}  // namespace bits

// The code of the nearest HiF8 value. Ties go away from zero. |x| < 2^-23 becomes 0x00 for both
// signs; ±2^-23 becomes ±2^-22.
OSPNEXT_HOST_DEVICE constexpr uint8_t encode(float x, Overflow overflow = Overflow::kInfinity) {
  return bits::code_of(bits::round(__builtin_bit_cast(uint32_t, x), overflow));
}

// The exact value of a code: one of 252 nonzero finite values, 0, ±infinity or NaN.
OSPNEXT_HOST_DEVICE constexpr float decode(uint8_t code) {
  return __builtin_bit_cast(float, bits::value_of(code));
}

// decode(encode(x)), computed without the code.
OSPNEXT_HOST_DEVICE constexpr float round(float x, Overflow overflow = Overflow::kInfinity) {
  return __builtin_bit_cast(float, bits::round(__builtin_bit_cast(uint32_t, x), overflow));
}

// 2^4·round(x / 2^4) in a third of the instructions, for |x| from 2^-11 to 2^4·28 and conversion to
// E4M3 (e4m3.h). Differs from round() below 2^-11: HiF8 has no mantissa there, but one mantissa bit
// stays. -0 stays -0.
OSPNEXT_HOST_DEVICE constexpr float round_for_e4m3(float x) {
  const float magnitude = __builtin_fabsf(x);
  uint32_t half = 0x80000U;  // half of the last of 3 mantissa bits; below, of the last of 2 or 1
  half = magnitude < 0x1p1F || magnitude >= 0x1p8F ? 0x100000U : half;
  half = magnitude < 0x1p-3F ? 0x200000U : half;
  const uint32_t pattern =
      __builtin_bit_cast(uint32_t, x);  // a carry of the sum below raises the exponent
  return __builtin_bit_cast(float, (pattern + half) & (0U - 2 * half));
}

}  // namespace ospnext::hif8
