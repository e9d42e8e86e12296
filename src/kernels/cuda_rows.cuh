// Shared parts of the CUDA kernels on rows of channels [B, L, C]: eight channels at a time as
// floats, sums over a group of threads, and the division of rows among threads.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda_launch.h"
#include "kernels/cuda_math.cuh"

namespace ospnext::cuda {

constexpr int kVector = 8;  // channels a thread reads or writes at once

struct Channels {
  float value[kVector];
};

__device__ inline Channels load_channels(const __nv_bfloat16* at) {
  const uint4 raw = *reinterpret_cast<const uint4*>(at);
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&raw);
  Channels out;
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    const float2 pair = __bfloat1622float2(pairs[i]);
    out.value[2 * i] = pair.x;
    out.value[2 * i + 1] = pair.y;
  }
  return out;
}

__device__ inline Channels load_channels(const float* at) {
  const float4 low = reinterpret_cast<const float4*>(at)[0];
  const float4 high = reinterpret_cast<const float4*>(at)[1];
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

__device__ inline void store_channels(__nv_bfloat16* at, const Channels& channels) {
  uint4 raw;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&raw);
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) {
    pairs[i] = __floats2bfloat162_rn(channels.value[2 * i], channels.value[2 * i + 1]);
  }
  *reinterpret_cast<uint4*>(at) = raw;
}

__device__ inline void store_channels(float* at, const Channels& channels) {
  const float* v = channels.value;
  reinterpret_cast<float4*>(at)[0] = make_float4(v[0], v[1], v[2], v[3]);
  reinterpret_cast<float4*>(at)[1] = make_float4(v[4], v[5], v[6], v[7]);
}

// The largest magnitude that a thread stores as T, or NaN if it stores a NaN. The order of rounding
// and maximum does not matter, because rounding keeps the order of numbers.
template <class T>
class Largest;

template <>
class Largest<float> {
 public:
  __device__ void take(const Channels& channels) {
#pragma unroll
    for (const float value : channels.value) {
      bits_ = max(bits_, __float_as_uint(fabsf(value)));  // same order as the numbers, NaN last
    }
  }
  __device__ unsigned bits() const { return bits_; }

 private:
  unsigned bits_ = 0;
};

template <>
class Largest<__nv_bfloat16> {
 public:
  __device__ void take(const Channels& channels) {
#pragma unroll
    for (int i = 0; i < kVector; i += 2) {
      const auto pair = __floats2bfloat162_rn(channels.value[i], channels.value[i + 1]);
      pair_ = __hmax2_nan(pair_, __habs2(pair));
    }
  }
  __device__ unsigned bits() const {
    return __float_as_uint(__bfloat162float(__hmax_nan(pair_.x, pair_.y)));
  }

 private:
  __nv_bfloat162 pair_ = __floats2bfloat162_rn(0, 0);
};

// Raises *amax to the largest magnitude of this warp. All lanes must call it.
template <class T>
__device__ inline void raise(float* amax, const Largest<T>& largest) {
  raise_shared(amax, largest.bits(), (threadIdx.x + threadIdx.y * blockDim.x) % 32 == 0);
}

// Calls launch.operator()<amax != nullptr>().
template <class Launch>
void with_amax(const float* amax, Launch&& launch) {
  if (amax != nullptr) {
    launch.template operator()<true>();
  } else {
    launch.template operator()<false>();
  }
}

// The sum over the kThreads threads that share a row (a warp or a whole block), in each of them.
template <int kThreads>
__device__ inline float row_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  }
  if constexpr (kThreads > 32) {
    __shared__ float parts[kThreads / 32];
    __syncthreads();  // all threads have read the previous sum
    if (threadIdx.x % 32 == 0) {
      parts[threadIdx.x / 32] = value;
    }
    __syncthreads();
    value = 0;
#pragma unroll
    for (int i = 0; i < kThreads / 32; ++i) {
      value += parts[i];
    }
  }
  return value;
}

// The division of [B, L, C] among threads. A group of kThreads threads (threadIdx.x) works on one
// row; each thread has kChunks vectors of it. The groups (threadIdx.y and blockIdx.x) take the rows
// of one sample (blockIdx.y) in turn.
template <int kThreads, int kChunks>
struct RowShare {
  static constexpr int kGroups = kThreads == 32 ? 8 : 1;  // groups of a block

  __device__ static int64_t sample() { return blockIdx.y; }
  __device__ static int64_t first_row() { return blockIdx.x * kGroups + threadIdx.y; }
  __device__ static int64_t row_step() { return int64_t{gridDim.x} * kGroups; }
  __device__ static int channel(int chunk) {
    return (chunk * kThreads + static_cast<int>(threadIdx.x)) * kVector;
  }
};

// Calls body(chunk, first channel) for each vector of the thread that lies inside a row of C
// channels.
template <int kThreads, int kChunks, class Body>
__device__ __forceinline__ void each_chunk(int C, Body&& body) {
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int c = RowShare<kThreads, kChunks>::channel(chunk);
    if (c < C) {
      body(chunk, c);
    }
  }
}

// Loads a thread's share of the row of C channels at `at`. Vectors beyond C stay unchanged.
template <int kThreads, int kChunks, class T>
__device__ inline void load_row(Channels (&row)[kChunks], const T* at, int C) {
  each_chunk<kThreads, kChunks>(C, [&](int chunk, int c) { row[chunk] = load_channels(at + c); });
}

// Stores the sums over a group's rows, one for each channel, in the group's own row of out
// [B, groups, C].
template <int kThreads, int kChunks>
__device__ inline void store_sums(float* out, const Channels (&sums)[kChunks], int C) {
  using Share = RowShare<kThreads, kChunks>;
  out += (Share::sample() * Share::row_step() + Share::first_row()) * C;
  each_chunk<kThreads, kChunks>(C,
                                [&](int chunk, int c) { store_channels(out + c, sums[chunk]); });
}

constexpr int64_t kMaxChannels = int64_t{256} * 4 * kVector;

// Calls launch.operator()<kThreads, kChunks>() with the smallest share that holds C <= kMaxChannels
// channels.
template <class Launch>
void with_row_share(int64_t C, Launch&& launch) {
  const int64_t vectors = C / kVector;
  if (vectors <= 32) {
    launch.template operator()<32, 1>();
  } else if (vectors <= 64) {
    launch.template operator()<32, 2>();
  } else if (vectors <= 192) {
    launch.template operator()<64, 3>();
  } else if (vectors <= 384) {
    launch.template operator()<128, 3>();
  } else if (vectors <= 640) {
    launch.template operator()<128, 5>();
  } else {
    launch.template operator()<256, 4>();
  }
}

// Calls body(T*) with a null pointer of the element's type.
template <class Body>
void with_element(Element element, Body&& body) {
  if (element == Element::kBf16) {
    body(static_cast<__nv_bfloat16*>(nullptr));
  } else {
    body(static_cast<float*>(nullptr));
  }
}

// The number of groups for a sample of L rows. A group takes a few rows, so it reads a gate once
// for all of them.
inline int64_t row_groups(int64_t L) {
  constexpr int64_t kRowsEach = 4;
  return (L + kRowsEach - 1) / kRowsEach;
}

// The grid for B samples with `groups` groups of threads each.
template <int kThreads, int kChunks>
dim3 grid_of(int64_t B, int64_t groups) {
  constexpr int64_t kGroups = RowShare<kThreads, kChunks>::kGroups;
  return {static_cast<unsigned>((groups + kGroups - 1) / kGroups), static_cast<unsigned>(B), 1};
}

template <int kThreads, int kChunks>
dim3 block_of() {
  return {kThreads, RowShare<kThreads, kChunks>::kGroups, 1};
}

}  // namespace ospnext::cuda
