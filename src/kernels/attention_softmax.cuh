// The softmax of attention (attention_hopper.cuh), computed on the fragments of a warp group's
// products in registers.
//
// A fragment holds the products of one thread: of every 8 columns it has columns 2·(lane % 4) and
// the next one, in row lane / 4 of its warp's 16 rows and then in the row 8 below.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cuda_math.cuh"

namespace ospnext::cuda {

constexpr float kScale = 0.08838834764831845F * 1.4426950408889634F;  // 1/√128 · log2 e
constexpr float kLn2 = 0.6931471805599453F, kLog2e = 1.4426950408889634F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Two numbers as bf16, the first in the low half.
__device__ __forceinline__ uint32_t pack(float low, float high) {
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// Four numbers as E4M3, the first in the lowest byte. Magnitudes above 448 become 448.
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

// The state of a thread's two rows: `top` is the score that is subtracted in the exponent, `sum`
// the thread's part of the sum of weights.
struct RowSums {
  float top[2], sum[2];
};

__device__ __forceinline__ int lane_id() {
  return static_cast<int>(threadIdx.x % 32);
}

// Sets the scores of all keys but the first `valid` of a tile to -infinity. With a bias (`bias`
// points to that of the tile's first key) the other scores become logits in powers of two:
// s·scale + bias·log2 e. Without one they stay as they are.
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

// s = exp2(scale·s - scale·top + Plan::kShift). Updates top and sum. Returns whether the caller
// must multiply the earlier sums of products by `shrink`.
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
    base[r] = rows.top[r] == -kInfinity ? 0.0F : rows.top[r] * scale;  // -infinity: no key so far
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

// Makes the assembler place the exponentials before the instructions that follow; otherwise it
// moves the wait for products ahead of them. The store below never happens, because a sum is never
// negative, but the assembler cannot know this.
__device__ __forceinline__ void keep_order(const RowSums& rows, uint32_t unused) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.lt.f32 p, %0, 0f00000000;\n@p st.shared::cta.f32 [%1], %0;\n}\n" ::
          "f"(rows.sum[0] + rows.sum[1]),
      "r"(unused)
      : "memory");
}

// Multiplies each of the thread's two rows by its factor.
template <int kCount>
__device__ __forceinline__ void multiply_rows(float (&o)[kCount], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    o[i] *= factor[i / 2 % 2];
  }
}

// Turns a fragment of weights into the left operand of the next product, in bf16.
template <int kCount>
__device__ __forceinline__ void pack_weights(uint32_t (&p)[kCount / 2], const float (&s)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    p[i] = pack(s[2 * i], s[2 * i + 1]);
  }
}

// The same in E4M3. In this operand a thread holds four adjacent columns. In the fragment it holds
// two, and two more 8 columns further. value_columns() (attention_launch.h) orders the keys to
// match.
template <int kCount>
__device__ __forceinline__ void pack_weights(uint32_t (&p)[kCount / 4], const float (&s)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 4; ++i) {
    const int first = i / 2 * 8 + i % 2 * 2;  // group of 16 columns i / 2, row i % 2
    p[i] = pack_e4m3(s[first], s[first + 1], s[first + 4], s[first + 5]);
  }
}

// Transposes a 4 x 4 matrix of words across four lanes: each lane has a column and gets a row.
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
