// The reference of the attention benchmark: attention in plain, slow fp32 CUDA, and data,
// comparisons and checksums.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "kernels/attention_launch.h"

namespace ospnext::cuda {
namespace {

constexpr int kReferenceHead = 128, kReferenceBlock = 128, kReferenceChunk = 1024;

struct Sample {
  int b, h, l, channel;
  float actual, expected;
};

// Sums of squares over the compared rows. `error`: output - reference. `rounding`: reference with
// the roundings of the kernel (weights P and output) - reference. `norm`: reference.
struct Comparison {
  double error, rounding, norm;
  double cells[8][4][2];  // error and norm by (l - first of segment) % 128 / 16 and channel / 32
  float largest_error, largest, lse_error;
  unsigned long long not_finite;
  unsigned samples;  // number of large errors; the first 8 are in `sample`
  Sample sample[8];
};

// Channel c of token t, read as E4M3 if `codes`, else as bf16.
__device__ inline float channel_of(bool codes, const HeadsOfTokens& x, int64_t b, int64_t t,
                                   int64_t h, int c) {
  const int64_t at = b * x.sample + t * x.token + h * x.head + c;
  return codes
             ? static_cast<float>(static_cast<const __nv_fp8_e4m3*>(x.data)[at])
             : __bfloat162float(static_cast<const __nv_bfloat16*>(x.data)[at]);
}

__device__ inline void atomic_max(float* at, float value) {  // of values that are not negative
  atomicMax(reinterpret_cast<int*>(at), __float_as_int(value));
}

__device__ inline float block_reduce(float value, bool maximum, float* scratch) {
  const int t = static_cast<int>(threadIdx.x);
  scratch[t] = value;
  __syncthreads();
  for (int half = kReferenceBlock / 2; half > 0; half /= 2) {
    if (t < half) {
      const float other = scratch[t + half];
      scratch[t] = maximum ? fmaxf(scratch[t], other) : scratch[t] + other;
    }
    __syncthreads();
  }
  const float result = scratch[0];
  __syncthreads();
  return result;
}

// A weight as the kernel rounds it: multiplied by 2^8, rounded to E4M3 and divided again if
// `codes`, else rounded to bf16.
__device__ inline float rounded_weight(float weight, bool codes) {
  constexpr float kShift = 256;
  return codes ? static_cast<float>(__nv_fp8_e4m3(weight * kShift)) / kShift
               : __bfloat162float(__float2bfloat16(weight));
}

// The logit of `key` for the query in q.
__device__ inline float logit(const AttentionArgs& a, const float* q, int64_t b, int64_t h,
                              int64_t key) {
  float dot = 0;
  for (int c = 0; c < kReferenceHead; ++c) {
    dot += q[c] * channel_of(a.score_factor != nullptr, a.k, b, key, h, c);
  }
  dot *= a.score_factor != nullptr ? a.score_factor[b] : 1.0F;
  return dot * 0.08838834764831845F + (a.bias != nullptr ? a.bias[key] : 0.0F);
}

// A query and the range [begin, end) of its keys.
struct Row {
  int64_t b, h, l;
  int begin, end;
};

// The reference of one row: largest logit and sum of weights, and one channel of the output, exact
// and with the roundings of the kernel.
struct Expected {
  float top, sum, exact, rounded;
};

// Computes the reference of a row, one channel per thread.
__device__ inline Expected attend(const AttentionArgs& a, const Row& row, float* scratch) {
  __shared__ float q[kReferenceHead], weight[kReferenceChunk];
  const int t = static_cast<int>(threadIdx.x);
  q[t] = channel_of(a.score_factor != nullptr, a.q, row.b, row.l, row.h, t);
  __syncthreads();
  float top = -INFINITY;
  for (int key = row.begin + t; key < row.end; key += kReferenceBlock) {
    top = fmaxf(top, logit(a, q, row.b, row.h, key));
  }
  top = block_reduce(top, true, scratch);
  float sum = 0, exact = 0, rounded = 0;
  for (int chunk = row.begin; chunk < row.end; chunk += kReferenceChunk) {
    const int count = min(kReferenceChunk, row.end - chunk);
    for (int i = t; i < count; i += kReferenceBlock) {
      weight[i] = expf(logit(a, q, row.b, row.h, chunk + i) - top);
      sum += weight[i];
    }
    __syncthreads();
    for (int i = 0; i < count; ++i) {
      const float v = channel_of(a.value_columns != nullptr, a.v, row.b, chunk + i, row.h, t) *
                      (a.value_factor != nullptr ? a.value_factor[row.b] : 1.0F);
      exact += weight[i] * v;
      rounded += rounded_weight(weight[i], a.value_columns != nullptr) * v;
    }
    __syncthreads();
  }
  sum = block_reduce(sum, false, scratch);
  return {top, sum, sum > 0 ? exact / sum : 0,
          __bfloat162float(__float2bfloat16(sum > 0 ? rounded / sum : 0))};
}

// Records the error of one channel: the largest values, the cell and, if it is large, a sample.
__device__ inline void record_channel(const Row& row, float actual, float expected,
                                      Comparison* result) {
  const int t = static_cast<int>(threadIdx.x);
  const float error = actual - expected;
  atomic_max(&result->largest_error, isfinite(error) ? fabsf(error) : 1e30F);
  atomic_max(&result->largest, fabsf(expected));
  if (!isfinite(actual)) {
    atomicAdd(&result->not_finite, 1ULL);
  }
  double* cell = result->cells[(row.l - row.begin) % 128 / 16][t / 32];
  atomicAdd(cell, double{error} * error);
  atomicAdd(cell + 1, double{expected} * expected);
  if (!(fabsf(error) <= 0.02F + 0.02F * fabsf(expected))) {
    const unsigned at = atomicAdd(&result->samples, 1U);
    if (at < 8) {
      result->sample[at] = {static_cast<int>(row.b), static_cast<int>(row.h),
                            static_cast<int>(row.l), t, actual, expected};
    }
  }
}

// Records the error of the log-sum-exp of a row.
__device__ inline void record_lse(const AttentionArgs& a, const Row& row, const Expected& expected,
                                  Comparison* result) {
  const float found = a.lse[(row.b * a.H + row.h) * a.L + row.l];
  const float wanted = expected.sum > 0 ? expected.top + logf(expected.sum) : -INFINITY;
  const float off = found == wanted ? 0 : fabsf(found - wanted) / fmaxf(1, fabsf(wanted));
  atomic_max(&result->lse_error, isfinite(off) ? off : 1e30F);
}

// Compares every `step`-th row (b, h, l) of the output. One block per row, one thread per channel.
__global__ void compare_kernel(AttentionArgs a, const int* ranges, int64_t step,
                               Comparison* result) {
  __shared__ float scratch[kReferenceBlock];
  const int64_t number = blockIdx.x * step, l = number % a.L;
  const Row row{number / a.L / a.H, number / a.L % a.H, l, ranges[2 * l], ranges[2 * l + 1]};
  const int t = static_cast<int>(threadIdx.x);
  const Expected expected = attend(a, row, scratch);
  const float actual = channel_of(false, a.o, row.b, row.l, row.h, t);
  const float error = actual - expected.exact, rounding = expected.rounded - expected.exact;
  const float errors = block_reduce(error * error, false, scratch);
  const float roundings = block_reduce(rounding * rounding, false, scratch);
  const float norms = block_reduce(expected.exact * expected.exact, false, scratch);
  record_channel(row, actual, expected.exact, result);
  if (t == 0) {
    atomicAdd(&result->error, double{errors});
    atomicAdd(&result->rounding, double{roundings});
    atomicAdd(&result->norm, double{norms});
    if (a.lse != nullptr) {
      record_lse(a, row, expected, result);
    }
  }
}

__device__ inline uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
  return x ^ x >> 31;
}

__device__ inline float normal(uint64_t seed) {
  const uint64_t bits = mix(seed + 0x9E3779B97F4A7C15ULL);
  const float u = (static_cast<float>(bits >> 40) + 1) / 16777217.0F;
  const float angle = static_cast<float>(bits & 0xFFFFFF) / 16777216.0F * 6.2831853F;
  return sqrtf(-2 * logf(u)) * cosf(angle);
}

// Fills x. mode 0: normal numbers; 1: with a mean, one channel 20 times and some tokens 8 times as
// large; 2: zeros; 3: ones. Stored as bf16, or, if `codes`, times 16 as E4M3 with magnitudes up to
// 448.
__global__ void fill_kernel(HeadsOfTokens x, int64_t B, int64_t tokens, int64_t H, uint64_t seed,
                            int mode, bool codes) {
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= B * tokens * H * kReferenceHead) {
    return;
  }
  const int64_t c = at % kReferenceHead, h = at / kReferenceHead % H;
  const int64_t t = at / kReferenceHead / H % tokens, b = at / kReferenceHead / H / tokens;
  float value = mode == 2 ? 0 : mode == 3 ? 1 : normal(static_cast<uint64_t>(at) * 1000003 + seed);
  if (mode == 1) {
    value = 0.5F + value * (c == 5 ? 20.0F : 1.0F) * (t % 97 == 3 ? 8.0F : 1.0F);
  }
  const int64_t to = b * x.sample + t * x.token + h * x.head + c;
  if (codes) {
    static_cast<__nv_fp8_e4m3*>(x.data)[to] = __nv_fp8_e4m3(16 * value);
  } else {
    static_cast<__nv_bfloat16*>(x.data)[to] = __float2bfloat16(value);
  }
}

inline void fill_tokens(const HeadsOfTokens& x, int64_t B, int64_t tokens, int64_t H, uint64_t seed,
                        int mode, bool codes) {
  const int64_t count = B * tokens * H * kReferenceHead;
  if (count > 0) {
    fill_kernel<<<static_cast<unsigned>((count + 255) / 256), 256>>>(x, B, tokens, H, seed, mode,
                                                                     codes);
  }
}

// A bias with which some keys have no weight and the last two count like e^3.5 keys each.
__global__ void fill_bias_kernel(float* bias, int64_t T) {
  for (int64_t i = threadIdx.x; i < T; i += blockDim.x) {
    bias[i] = i % 11 == 4  ? -INFINITY
              : i + 2 >= T ? 3.5F
                           : 0.25F * normal(static_cast<uint64_t>(i));
  }
}

inline void fill_bias(float* bias, int64_t T) {
  fill_bias_kernel<<<1, 256>>>(bias, T);
}

__global__ void checksum_kernel(const __nv_bfloat16* x, int64_t count, unsigned long long* sum) {
  unsigned long long own = 0;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    own += mix(static_cast<uint64_t>(i) << 16 | __bfloat16_as_ushort(x[i]));
  }
  atomicAdd(sum, own);
}

template <class T>
T* zeroed() {
  T* data = nullptr;
  if (cudaMalloc(&data, sizeof(T)) != cudaSuccess ||
      cudaMemset(data, 0, sizeof(T)) != cudaSuccess) {
    std::printf("no memory\n");
    std::exit(2);
  }
  return data;
}

template <class T>
T taken(T* data) {
  T value;
  if (cudaMemcpy(&value, data, sizeof(T), cudaMemcpyDeviceToHost) != cudaSuccess) {
    std::printf("a kernel of the harness failed: %s\n", cudaGetErrorString(cudaGetLastError()));
    std::exit(2);
  }
  cudaFree(data);
  return value;
}

inline uint64_t checksum(const __nv_bfloat16* x, int64_t count) {
  auto* sum = zeroed<unsigned long long>();
  checksum_kernel<<<256, 256>>>(x, count, sum);
  return taken(sum);
}

// Compares about `rows` rows of the output, or all.
inline Comparison compare(const AttentionArgs& args, const int* ranges, int64_t rows) {
  auto* result = zeroed<Comparison>();
  const int64_t all = args.B * args.H * args.L;
  const int64_t step = rows > 0 ? std::max<int64_t>(all / rows, 1) | 1 : 1;
  if (all > 0) {
    compare_kernel<<<static_cast<unsigned>((all + step - 1) / step), kReferenceBlock>>>(
        args, ranges, step, result);
  }
  return taken(result);
}

// Writes the cycle counter of the first multiprocessor and the time in nanoseconds.
__global__ void clock_kernel(unsigned long long* now) {
  unsigned multiprocessor;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
  if (multiprocessor == 0 && threadIdx.x == 0) {
    now[0] = static_cast<unsigned long long>(clock64());
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now[1]));
  }
}

__global__ void touched_kernel(const __nv_bfloat16* x, int64_t count, unsigned long long* touched) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    if (__bfloat16_as_ushort(x[i]) != 0xFFFF) {
      atomicAdd(touched, 1ULL);
    }
  }
}

// Whether all elements still have the bits 0xFFFF of Problem::poison().
inline bool untouched(const __nv_bfloat16* x, int64_t count) {
  auto* touched = zeroed<unsigned long long>();
  touched_kernel<<<1, 256>>>(x, count, touched);
  return taken(touched) == 0;
}

}  // namespace
}  // namespace ospnext::cuda
