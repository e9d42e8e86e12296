// CUDA kernels of hif8_tensors.h. Tensors are B contiguous samples of `size` elements each. `scale`
// is [B] float32 on the device, or null for 1.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "quant/hif8.h"
#include "quant/hif8_of.h"

namespace ospnext::cuda {

enum class HiF8Element { kFloat, kBf16, kHalf };

struct Samples {
  int64_t B, size;
};

// Raises amax [B] float32, which must be 0 before, to the largest magnitude of each sample of x or
// of its GELU (rounded to `element`). A NaN in a sample makes its amax NaN.
void hif8_amax(const void* x, float* amax, Samples samples, HiF8Element element, hif8::Of of,
               cudaStream_t stream);

// out = the codes of x·scale.
void hif8_encode(const void* x, const float* scale, uint8_t* out, Samples samples,
                 HiF8Element element, hif8::Overflow overflow, cudaStream_t stream);

// scale [n] = amax_to / max(amax, floor). inverse [n, 4], if not null, = 1/scale four times a row.
void hif8_scale(const float* amax, float amax_to, float floor, float* scale, float* inverse,
                int64_t n, cudaStream_t stream);

// out = x·scale or GELU(x)·scale in E4M3, rounded to 2^4 times the values of codes (e4m3.h).
// x·scale or GELU(x)·scale must be at most 28·2^4.
void hif8_encode_e4m3(const void* x, const float* scale, uint8_t* out, Samples samples,
                      HiF8Element element, hif8::Of of, cudaStream_t stream);

// out = the values of the codes of x·scale, of type `element`.
void hif8_code_values(const void* x, const float* scale, void* out, Samples samples,
                      HiF8Element element, hif8::Overflow overflow, cudaStream_t stream);

// out = the values of the codes of x·scale, divided by scale, of type `element`.
void hif8_round(const void* x, const float* scale, void* out, Samples samples, HiF8Element element,
                cudaStream_t stream);

// out = the values of codes, divided by scale, of type `element`.
void hif8_decode(const uint8_t* codes, const float* scale, void* out, Samples samples,
                 HiF8Element element, cudaStream_t stream);

}  // namespace ospnext::cuda
