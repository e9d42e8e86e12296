// The softmax of attention on fragments of a warp group's products, in registers (attention_hopper.cuh).
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cuda_math.cuh"

namespace ospnext::cuda {

constexpr float kScale = 0.08838834764831845F * 1.4426950408889634F;  // 1/√128 · log2 e
constexpr float kLn2 = 0.6931471805599453F, kLog2e = 1.4426950408889634F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

__device__ __forceinline__ uint32_t pack(float low, float high) {
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// Four numbers as E4M3, the first lowest; 448 at most.
__device__ __forceinline__ uint32_t pack_e4m3(float a, float b, float c, float d) {
  uint32_t four;
  asm("{\n.reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n}\n"
      : "=r"(four)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return four;
}

// A fragment of products: of each 8 columns the thread has two, 2·(lane % 4) and the next, of row lane / 4 of its
// warp's 16 and then of the row 8 below. `rows.top` is what exponents are taken relative to.
struct RowSums {
  float top[2], sum[2];
};

__device__ __forceinline__ int lane_id() {
  return static_cast<int>(threadIdx.x % 32);
}

// Scores of a tile whose first `valid` keys count: the others become -infinity. With a bias (of the tile's first key)
// logits in powers of two, which scores are when multiplied by `scale`; else as they are.
template <bool kBias, int kCount>
__device__ __forceinline__ void mask_scores(float (&s)[kCount], int valid, const float* bias,
                                            float scale) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int key = i / 4 * 8 + lane_id() % 4 * 2 + i % 2;
    if constexpr (kBias) {
      s[i] = key < valid ? fmaf(s[i], scale, bias[key] * kLog2e) : -kInfinity;
    } else {
      s[i] = key < valid ? s[i] : -kInfinity;
    }
  }
}

// s = exp2(scale·s - scale·top + Plan::kShift), top and sum brought up to date. Whether earlier sums are to be multiplied by `shrink`.
template <class Plan, int kCount>
__device__ __forceinline__ bool exponentiate(float (&s)[kCount], RowSums& rows, float (&shrink)[2],
                                             float scale) {
  float top[2], base[2];
  bool grown = Plan::kSlack == 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float even = s[2 * r], odd = s[2 * r + 1];
#pragma unroll
    for (int i = 4; i < kCount; i += 4) {
      even = fmaxf(even, s[i + 2 * r]);
      odd = fmaxf(odd, s[i + 2 * r + 1]);
    }
    top[r] = fmaxf(even, odd);
    top[r] = fmaxf(top[r], __shfl_xor_sync(~0U, top[r], 1));
    top[r] = fmaxf(top[r], __shfl_xor_sync(~0U, top[r], 2));
    if constexpr (Plan::kSlack > 0) {
      grown = grown || (top[r] - rows.top[r]) * scale > Plan::kSlack;
    }
  }
  if constexpr (Plan::kSlack > 0) {
    grown = __any_sync(~0U, grown);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float before = rows.top[r];
    rows.top[r] = grown ? fmaxf(before, top[r]) : before;
    base[r] = rows.top[r] == -kInfinity ? 0.0F : rows.top[r] * scale;  // no key counts yet
    shrink[r] = exp2_fast(fmaf(before, scale, -base[r]));
    base[r] -= Plan::kShift;
    rows.sum[r] *= grown ? shrink[r] : 1.0F;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int r = i / 2 % 2;
    s[i] = exp2_fast(fmaf(s[i], scale, -base[r]));
    rows.sum[r] += s[i];
  }
  return grown;
}

// Ends exponentiation before what follows: the assembler, which would rather wait for products first, does not know
// that a sum is never negative, and never stored.
__device__ __forceinline__ void keep_order(const RowSums& rows, uint32_t unused) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.lt.f32 p, %0, 0f00000000;\n@p st.shared::cta.f32 [%1], %0;\n}\n" ::
          "f"(rows.sum[0] + rows.sum[1]),
      "r"(unused)
      : "memory");
}

template <int kCount>
__device__ __forceinline__ void multiply_rows(float (&o)[kCount], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    o[i] *= factor[i / 2 % 2];
  }
}

// From a fragment to the left operand of the next product, bf16.
template <int kCount>
__device__ __forceinline__ void pack_weights(uint32_t (&p)[kCount / 2], const float (&s)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    p[i] = pack(s[2 * i], s[2 * i + 1]);
  }
}

// The same in E4M3. That operand has four adjacent columns in a thread where the fragment has two and, 8 further, two:
// value_columns() (attention_launch.h) has the keys in this order.
template <int kCount>
__device__ __forceinline__ void pack_weights(uint32_t (&p)[kCount / 4], const float (&s)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 4; ++i) {
    const int first = i / 2 * 8 + i % 2 * 2;  // of the group of 16 columns i / 2, row i % 2
    p[i] = pack_e4m3(s[first], s[first + 1], s[first + 4], s[first + 5]);
  }
}

// Four lanes have a column each of a 4 x 4 matrix of words, and then a row each.
__device__ __forceinline__ void transpose_quad(uint32_t (&word)[4]) {
  const bool odd = lane_id() % 2 != 0, upper = lane_id() / 2 % 2 != 0;
  const uint32_t a = __shfl_xor_sync(~0U, odd ? word[0] : word[1], 1);
  const uint32_t b = __shfl_xor_sync(~0U, odd ? word[2] : word[3], 1);
  (odd ? word[0] : word[1]) = a;
  (odd ? word[2] : word[3]) = b;
  const uint32_t c = __shfl_xor_sync(~0U, upper ? word[0] : word[2], 2);
  const uint32_t d = __shfl_xor_sync(~0U, upper ? word[1] : word[3], 2);
  (upper ? word[0] : word[2]) = c;
  (upper ? word[1] : word[3]) = d;
}

}  // namespace ospnext::cuda
