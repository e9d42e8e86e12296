// Largest magnitudes, and elementwise casts to and from HiFloat8. Memory is the limit: 1 to 8 bytes
// per element, with up to 40 integer operations. For sm_80 and up; the cast to E4M3 is fast from
// sm_89.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>

#include "kernels/cuda_math.cuh"
#include "quant/hif8_tensors_launch.h"

namespace ospnext::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int64_t kMostBlocks = 16384;
constexpr int kVector =
    8;  // elements that a thread reads and writes at once, if the samples' size allows it

__device__ float to_float(float x) {
  return x;
}
__device__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ float to_float(__half x) {
  return __half2float(x);
}
__device__ void set(float& out, float value) {
  out = value;
}
__device__ void set(__nv_bfloat16& out, float value) {
  out = __float2bfloat16_rn(value);
}
__device__ void set(__half& out, float value) {
  out = __float2half_rn(value);
}

// 1/x, approximate as in __fdividef(). Subnormal numbers become 0.
__device__ float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The larger number, or NaN if one is NaN.
__device__ float max_or_nan(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}

// GELU (tanh approximation) written with a sigmoid: x / (1 + e^(-2·√(2/π)·(x + 0.044715·x³))).
// Rounded to T, as if it had been stored.
template <class T>
__device__ float gelu(T stored) {
  constexpr float kTwice = -1.5957691216057308F * 1.4426950408889634F;  // -2·√(2/π)·log2 e
  constexpr float kCubic = kTwice * 0.044715F;
  const float x = to_float(stored);
  T out;
  set(out, x * reciprocal_fast(1 + exp2_fast(x * fmaf(kCubic, x * x, kTwice))));
  return to_float(out);
}

// The number to be rounded: x or its GELU.
template <hif8::Of kOf, class T>
__device__ float number_of(T stored) {
  if constexpr (kOf == hif8::Of::kGelu) {
    return gelu(stored);
  } else {
    return to_float(stored);
  }
}

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth < 16 ? sizeof(T) * kWidth : 16) Pack {
  T value[kWidth];
};

// The operations of cast_kernel() on one element. `scale` is the scale of its sample.
struct Encode {
  hif8::Overflow overflow;
  template <class T>
  __device__ void operator()(T x, float scale, uint8_t& out) const {
    out = hif8::encode(__fmul_rn(to_float(x), scale), overflow);
  }
};
struct CodeValue {
  hif8::Overflow overflow;
  template <class T>
  __device__ void operator()(T x, float scale, T& out) const {
    set(out, hif8::round(__fmul_rn(to_float(x), scale), overflow));
  }
};
struct RoundAndBack {
  template <class T>
  __device__ void operator()(T x, float scale, T& out) const {
    set(out, __fdiv_rn(hif8::round(__fmul_rn(to_float(x), scale)), scale));
  }
};
struct Decode {
  template <class T>
  __device__ void operator()(uint8_t code, float scale, T& out) const {
    set(out, __fdiv_rn(hif8::decode(code), scale));
  }
};

// x·scale, at most 28·2^4, rounded to 2^4 times the values of codes. A power of two does not change
// the rounding.
template <hif8::Of kOf, class T, int kWidth>
__device__ Pack<uint8_t, kWidth> encode_e4m3(const Pack<T, kWidth>& in, float scale) {
  float value[kWidth];
  Pack<uint8_t, kWidth> out;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    value[i] = hif8::round_for_e4m3(__fmul_rn(number_of<kOf>(in.value[i]), scale));
  }
#pragma unroll
  for (int i = 0; i < kWidth; i += 2) {
    const float2 pair{value[i], i + 1 < kWidth ? value[i + 1] : 0.0F};
    const __nv_fp8x2_storage_t both = __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, __NV_E4M3);
    out.value[i] = static_cast<uint8_t>(both);
    if (i + 1 < kWidth) {
      out.value[i + 1] = static_cast<uint8_t>(both >> 8);
    }
  }
  return out;
}

template <int kWidth, hif8::Of kOf, class T>
__global__ void encode_e4m3_kernel(const T* in, const float* scale, uint8_t* out, Samples samples) {
  const int64_t packs = samples.B * samples.size / kWidth, packs_each = samples.size / kWidth;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs; i += step) {
    const float factor = scale == nullptr ? 1.0F : scale[samples.B == 1 ? 0 : i / packs_each];
    const auto from = reinterpret_cast<const Pack<T, kWidth>*>(in)[i];
    reinterpret_cast<Pack<uint8_t, kWidth>*>(out)[i] = encode_e4m3<kOf>(from, factor);
  }
}

template <int kWidth, class In, class Out, class Cast>
__global__ void cast_kernel(const In* in, const float* scale, Out* out, Samples samples,
                            Cast cast) {
  const int64_t packs = samples.B * samples.size / kWidth, packs_each = samples.size / kWidth;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs; i += step) {
    const float factor = scale == nullptr ? 1.0F : scale[samples.B == 1 ? 0 : i / packs_each];
    const auto from = reinterpret_cast<const Pack<In, kWidth>*>(in)[i];
    Pack<Out, kWidth> to;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      cast(from.value[j], factor, to.value[j]);
    }
    reinterpret_cast<Pack<Out, kWidth>*>(out)[i] = to;
  }
}

// The largest magnitude of the packs that a thread has seen, as bits. Positive floats have the same
// order as their bits, with NaN above infinity.
template <hif8::Of kOf, class T>
struct Largest {
  unsigned bits = 0;
  template <int kWidth>
  __device__ void see(const Pack<T, kWidth>& pack) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      bits = max(bits, __float_as_uint(fabsf(to_float(pack.value[i]))));
    }
  }
  __device__ unsigned total() const {
    return bits;
  }
};

// The largest magnitude of the packs' GELU. GELU increases above 0 and stays above -0.171 below 0.
// Its value at 0.5 is 0.346, so if an input is 0.5 or more, the largest input decides. This saves
// two special functions per element.
template <class T>
struct Largest<hif8::Of::kGelu, T> {
  static constexpr float kDecides = 0.5F;
  unsigned bits = 0;
  float top = 0;  // the largest input above 0; NaN if there was one
  template <int kWidth>
  __device__ void see(const Pack<T, kWidth>& pack) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      top = max_or_nan(top, to_float(pack.value[i]));
    }
    if (!(top >= kDecides)) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        bits = max(bits, __float_as_uint(fabsf(gelu(pack.value[i]))));
      }
    }
  }
  __device__ unsigned total() const {
    T stored;
    set(stored, top);
    return top >= kDecides ? __float_as_uint(gelu(stored)) : bits;
  }
};

// Raises amax[b] to the largest magnitude of sample b (y of the grid). Each block takes a part of
// it.
template <int kWidth, hif8::Of kOf, class T>
__global__ void amax_kernel(const T* x, float* amax, int64_t size) {
  const T* sample = x + blockIdx.y * size;
  const int64_t packs = size / kWidth, step = int64_t{gridDim.x} * kThreads;
  Largest<kOf, T> seen;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs; i += step) {
    seen.see(reinterpret_cast<const Pack<T, kWidth>*>(sample)[i]);
  }
  unsigned largest = __reduce_max_sync(0xFFFFFFFFU, seen.total());
  __shared__ unsigned of_warps[kWarps];
  if (threadIdx.x % 32 == 0) {
    of_warps[threadIdx.x / 32] = largest;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 0; warp < kWarps; ++warp) {
      largest = max(largest, of_warps[warp]);
    }
    atomicMax(reinterpret_cast<unsigned*>(amax) + blockIdx.y, largest);
  }
}

__global__ void scale_kernel(const float* amax, float amax_to, float floor, float* scale,
                             float4* inverse, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) {
    return;
  }
  const float s = __fdiv_rn(amax_to, max_or_nan(amax[i], floor));
  scale[i] = s;
  if (inverse != nullptr) {
    const float back = __frcp_rn(s);
    inverse[i] = {back, back, back, back};
  }
}

template <class Body>
void with_element(HiF8Element element, Body&& body) {
  switch (element) {
    case HiF8Element::kFloat:
      return body(static_cast<float*>(nullptr));
    case HiF8Element::kBf16:
      return body(static_cast<__nv_bfloat16*>(nullptr));
    case HiF8Element::kHalf:
      return body(static_cast<__half*>(nullptr));
  }
}

// Calls launch.operator()<width>() with the widest vectors that a sample of `size` elements and the
// alignment of `pointer` allow.
template <class Launch>
void with_width(int64_t size, const void* pointer, Launch&& launch) {
  constexpr uintptr_t kAlignment = 16;
  if (size % kVector == 0 && reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0) {
    launch.template operator()<kVector>();
  } else {
    launch.template operator()<1>();
  }
}

unsigned blocks_of(int64_t threads) {
  return static_cast<unsigned>(std::min((threads + kThreads - 1) / kThreads, kMostBlocks));
}

template <class In, class Out, class Cast>
void cast_all(const In* in, const float* scale, Out* out, Samples samples, Cast cast,
              cudaStream_t stream) {
  const int64_t count = samples.B * samples.size;
  if (count == 0) {
    return;
  }
  with_width(samples.size, in, [&]<int kWidth>() {
    cast_kernel<kWidth>
        <<<blocks_of(count / kWidth), kThreads, 0, stream>>>(in, scale, out, samples, cast);
  });
}

}  // namespace

void hif8_amax(const void* x, float* amax, Samples samples, HiF8Element element, hif8::Of of,
               cudaStream_t stream) {
  constexpr int64_t kEnoughBlocks = 2048;
  if (samples.B * samples.size == 0) {
    return;
  }
  with_element(element, [&]<class T>(T*) {
    with_width(samples.size, x, [&]<int kWidth>() {
      const auto each =
          static_cast<unsigned>(std::min<int64_t>(blocks_of(samples.size / kWidth), kEnoughBlocks));
      const auto kernel = of == hif8::Of::kGelu ? amax_kernel<kWidth, hif8::Of::kGelu, T>
                                                : amax_kernel<kWidth, hif8::Of::kItself, T>;
      kernel<<<dim3(each, static_cast<unsigned>(samples.B)), kThreads, 0, stream>>>(
          static_cast<const T*>(x), amax, samples.size);
    });
  });
}

void hif8_scale(const float* amax, float amax_to, float floor, float* scale, float* inverse,
                int64_t n, cudaStream_t stream) {
  if (n > 0) {
    const auto blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
    scale_kernel<<<blocks, kThreads, 0, stream>>>(amax, amax_to, floor, scale,
                                                  reinterpret_cast<float4*>(inverse), n);
  }
}

void hif8_encode(const void* x, const float* scale, uint8_t* out, Samples samples,
                 HiF8Element element, hif8::Overflow overflow, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    cast_all(static_cast<const T*>(x), scale, out, samples, Encode{overflow}, stream);
  });
}

void hif8_encode_e4m3(const void* x, const float* scale, uint8_t* out, Samples samples,
                      HiF8Element element, hif8::Of of, cudaStream_t stream) {
  const int64_t count = samples.B * samples.size;
  if (count == 0) {
    return;
  }
  with_element(element, [&]<class T>(T*) {
    with_width(samples.size, x, [&]<int kWidth>() {
      const auto kernel = of == hif8::Of::kGelu ? encode_e4m3_kernel<kWidth, hif8::Of::kGelu, T>
                                                : encode_e4m3_kernel<kWidth, hif8::Of::kItself, T>;
      kernel<<<blocks_of(count / kWidth), kThreads, 0, stream>>>(static_cast<const T*>(x), scale,
                                                                 out, samples);
    });
  });
}

void hif8_code_values(const void* x, const float* scale, void* out, Samples samples,
                      HiF8Element element, hif8::Overflow overflow, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    cast_all(static_cast<const T*>(x), scale, static_cast<T*>(out), samples, CodeValue{overflow},
             stream);
  });
}

void hif8_round(const void* x, const float* scale, void* out, Samples samples, HiF8Element element,
                cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    cast_all(static_cast<const T*>(x), scale, static_cast<T*>(out), samples, RoundAndBack{},
             stream);
  });
}

void hif8_decode(const uint8_t* codes, const float* scale, void* out, Samples samples,
                 HiF8Element element, cudaStream_t stream) {
  with_element(element, [&]<class T>(T*) {
    cast_all(codes, scale, static_cast<T*>(out), samples, Decode{}, stream);
  });
}

}  // namespace ospnext::cuda
