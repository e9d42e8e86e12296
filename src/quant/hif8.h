// HiFloat8, the 8-bit float with tapered precision: bit patterns of float32 to codes and back.
//
// A code is sign | dot | exponent | mantissa; the dot field, a prefix code, says how many bits the
// exponent takes, and the mantissa gets the rest. With E the exponent of |x| = 2^E·(1 + M/2^m):
//
//   dot   |E|        m  positive codes, E > 0 and E < 0
//   0001  0          3  08-0F
//   001   1          3  10-17   18-1F
//   01    2, 3       3  20-2F   30-3F
//   10    4 to 7     2  40-4F   50-5F
//   11    8 to 15    1  60-6E   70-7F   (6F, the place of 1.5·2^15, is infinity)
//   0000  -22..-16   0  01-07, and 00 is zero; 80, which would be -0, is NaN
//
// Free of torch and of the standard library's functions, for host and device. Source: arXiv 2409.16626.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define OSPNEXT_HOST_DEVICE __host__ __device__
#else
#define OSPNEXT_HOST_DEVICE
#endif

namespace ospnext::hif8 {

// What becomes of values beyond the largest finite one, 2^15, and of NaN.
enum class Overflow {
  kInfinity,  // |x| >= 40,960 gives ±infinity; NaN stays NaN
  kSaturate,  // the largest finite value of x's sign, also for infinity; NaN gives 0
};

inline constexpr uint8_t kNan = 0x80;
inline constexpr uint8_t kInfinity = 0x6F;  // with the sign bit: -infinity
inline constexpr uint8_t kLargest = 0x6E;   // 2^15

namespace bits {  // of float32

inline constexpr uint32_t kSign = 0x80000000U;
inline constexpr uint32_t kInfinity = 0x7F800000U;
inline constexpr uint32_t kNan = 0x7FC00000U;

// 2^exponent, a normal number.
OSPNEXT_HOST_DEVICE constexpr uint32_t power_of_two(int exponent) {
  return static_cast<uint32_t>(exponent + 127) << 23;
}

// All bits where `condition` holds, so that a choice is no branch and loops become vector instructions.
OSPNEXT_HOST_DEVICE constexpr uint32_t mask(bool condition) {
  return 0U - static_cast<uint32_t>(condition);
}

OSPNEXT_HOST_DEVICE constexpr uint32_t choose(bool condition, uint32_t yes, uint32_t no) {
  return no ^ ((yes ^ no) & mask(condition));
}

// Whether a positive number lies in [2^-n, 2^(n+1)), that is |E| <= n.
OSPNEXT_HOST_DEVICE constexpr bool exponent_within(uint32_t magnitude, int n) {
  return magnitude - power_of_two(-n) < power_of_two(n + 1) - power_of_two(-n);
}

// The bits below the last one of the mantissa while |E| <= 15: 20 at full width, one more for every bit that E
// takes away.
OSPNEXT_HOST_DEVICE constexpr uint32_t below_mantissa(uint32_t magnitude) {
  return 0xFFFFFU | (0x100000U & mask(!exponent_within(magnitude, 3))) |
         (0x300000U & mask(!exponent_within(magnitude, 7)));
}

// The nearest HiF8 value, ties away from zero, as float32 bits; never -0.
OSPNEXT_HOST_DEVICE constexpr uint32_t round(uint32_t x, Overflow overflow) {
  constexpr uint32_t kSlotOfInfinity = power_of_two(15) | 0x400000U;  // 1.5·2^15
  const bool saturate = overflow == Overflow::kSaturate;
  const uint32_t magnitude = x & ~kSign;
  const uint32_t below =
      below_mantissa(magnitude) | (0x700000U & mask(!exponent_within(magnitude, 15)));
  // Half of the last place is added and the rest cut off; a carry moves on to the next exponent.
  uint32_t rounded = (magnitude + (below >> 1) + 1) & ~below;
  rounded = choose(magnitude < power_of_two(-22), power_of_two(-22), rounded);
  rounded &= mask(magnitude >= power_of_two(-23));  // halfway from 0 to 2^-22
  rounded = choose(rounded >= kSlotOfInfinity, saturate ? power_of_two(15) : kInfinity, rounded);
  rounded |= x & kSign & mask(rounded != 0);
  return choose(magnitude > kInfinity, saturate ? 0U : kNan, rounded);
}

// The code of a HiF8 value, as round() gives it.
OSPNEXT_HOST_DEVICE constexpr uint8_t code_of(uint32_t value) {
  const uint32_t magnitude = value & ~kSign;
  const uint32_t exponent = (magnitude >> 23) - 127;
  const uint32_t negative = mask((exponent & kSign) != 0);
  const uint32_t size = (exponent ^ negative) - negative;  // |E|
  const uint32_t mantissa = magnitude >> 20 & 7;
  // |E| and the mantissa side by side, moved to where the codes of the band begin, and once more for
  // negative exponents.
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

// The value of a code; exact.
OSPNEXT_HOST_DEVICE constexpr uint32_t value_of(uint8_t code) {
  const uint32_t sign = (code & 0x80U) << 24;
  const int c = code & 0x7F;
  if (c == 0) {
    return code == hif8::kNan ? kNan : 0U;
  }
  if (c == hif8::kInfinity) {
    return sign | kInfinity;
  }
  if (c < 0x08) {  // no mantissa: the code counts binades
    return sign | power_of_two(c - 23);
  }
  const int mantissa_bits = c < 0x40 ? 3 : (c < 0x60 ? 2 : 1);
  // |E| is an implied leading 1, above the exponent bits that are left of the mantissa.
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

// The code of the nearest HiF8 value. Ties go away from zero; |x| < 2^-23 gives 0x00 for both signs, 2^-23
// itself 2^-22.
OSPNEXT_HOST_DEVICE constexpr uint8_t encode(float x, Overflow overflow = Overflow::kInfinity) {
  return bits::code_of(bits::round(__builtin_bit_cast(uint32_t, x), overflow));
}

// The value of a code: one of 252 finite ones, 0, ±infinity or NaN.
OSPNEXT_HOST_DEVICE constexpr float decode(uint8_t code) {
  return __builtin_bit_cast(float, bits::value_of(code));
}

// decode(encode(x)), without the code.
OSPNEXT_HOST_DEVICE constexpr float round(float x, Overflow overflow = Overflow::kInfinity) {
  return __builtin_bit_cast(float, bits::round(__builtin_bit_cast(uint32_t, x), overflow));
}

// 2^4·round(x / 2^4) in a third of the instructions, for |x| from 2^-11 up to 2^4·28, as it goes to E4M3 (e4m3.h).
// Below, where the value has no mantissa, one bit of it stays; -0 stays.
OSPNEXT_HOST_DEVICE constexpr float round_for_e4m3(float x) {
  const float magnitude = __builtin_fabsf(x);
  uint32_t half = 0x80000U;  // of the last of three bits; of two and of one where |E| takes more
  half = magnitude < 0x1p1F || magnitude >= 0x1p8F ? 0x100000U : half;
  half = magnitude < 0x1p-3F ? 0x200000U : half;
  const uint32_t pattern =
      __builtin_bit_cast(uint32_t, x);  // a carry moves on to the next exponent
  return __builtin_bit_cast(float, (pattern + half) & (0U - 2 * half));
}

}  // namespace ospnext::hif8
