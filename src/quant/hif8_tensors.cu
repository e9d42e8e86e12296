// Elementwise casts to and from HiFloat8. Bound by memory: 1 to 8 bytes an element and some 40 integer
// operations; sm_80 and up.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "quant/hif8_tensors_launch.h"

namespace ospnext::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 16384;

__device__ float to_float(float x) {
  return x;
}
__device__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ float to_float(__half x) {
  return __half2float(x);
}
__device__ void store(float* at, float value) {
  *at = value;
}
__device__ void store(__nv_bfloat16* at, float value) {
  *at = __float2bfloat16_rn(value);
}
__device__ void store(__half* at, float value) {
  *at = __float2half_rn(value);
}

// Calls body(i, scale of i) for this thread's elements. Threads of a grid stand beside each other.
template <class Body>
__device__ void for_each_element(const float* scale, Samples samples, Body&& body) {
  const int64_t count = samples.B * samples.size;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    body(i, scale == nullptr ? 1.0F : scale[samples.B == 1 ? 0 : i / samples.size]);
  }
}

template <class T>
__global__ void encode_kernel(const T* x, const float* scale, uint8_t* out, Samples samples,
                              hif8::Overflow overflow) {
  for_each_element(scale, samples, [&](int64_t i, float factor) {
    out[i] = hif8::encode(__fmul_rn(to_float(x[i]), factor), overflow);
  });
}

template <class T>
__global__ void code_values_kernel(const T* x, const float* scale, T* out, Samples samples,
                                   hif8::Overflow overflow) {
  for_each_element(scale, samples, [&](int64_t i, float factor) {
    store(out + i, hif8::round(__fmul_rn(to_float(x[i]), factor), overflow));
  });
}

template <class T>
__global__ void decode_kernel(const uint8_t* codes, const float* scale, T* out, Samples samples) {
  for_each_element(scale, samples, [&](int64_t i, float factor) {
    store(out + i, __fdiv_rn(hif8::decode(codes[i]), factor));
  });
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

// 0 for nothing to do.
unsigned blocks_of(Samples samples) {
  const int64_t blocks = (samples.B * samples.size + kThreads - 1) / kThreads;
  return static_cast<unsigned>(std::min(blocks, kMostBlocks));
}

}  // namespace

void hif8_encode(const void* x, const float* scale, uint8_t* out, Samples samples,
                 HiF8Element element, hif8::Overflow overflow, cudaStream_t stream) {
  const unsigned blocks = blocks_of(samples);
  if (blocks == 0) {
    return;
  }
  with_element(element, [&]<class T>(T*) {
    encode_kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const T*>(x), scale, out, samples,
                                                   overflow);
  });
}

void hif8_code_values(const void* x, const float* scale, void* out, Samples samples,
                      HiF8Element element, hif8::Overflow overflow, cudaStream_t stream) {
  const unsigned blocks = blocks_of(samples);
  if (blocks == 0) {
    return;
  }
  with_element(element, [&]<class T>(T*) {
    code_values_kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const T*>(x), scale,
                                                        static_cast<T*>(out), samples, overflow);
  });
}

void hif8_decode(const uint8_t* codes, const float* scale, void* out, Samples samples,
                 HiF8Element element, cudaStream_t stream) {
  const unsigned blocks = blocks_of(samples);
  if (blocks == 0) {
    return;
  }
  with_element(element, [&]<class T>(T*) {
    decode_kernel<<<blocks, kThreads, 0, stream>>>(codes, scale, static_cast<T*>(out), samples);
  });
}

}  // namespace ospnext::cuda
