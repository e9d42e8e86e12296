// CUDA kernels of hif8_tensors.h. B samples of `size` elements each, packed; `scale` [B] float32, or null
// for 1.
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

// amax [B], zero before, becomes the largest magnitude of each sample of x, or of its GELU in x's element; NaN where
// NaN is.
void hif8_amax(const void* x, float* amax, Samples samples, HiF8Element element, hif8::Of of,
               cudaStream_t stream);

// out = codes of x·scale.
void hif8_encode(const void* x, const float* scale, uint8_t* out, Samples samples,
                 HiF8Element element, hif8::Overflow overflow, cudaStream_t stream);

// out = values of the codes of x·scale, or of GELU(x)·scale, times 2^4, as E4M3 (e4m3.h); what is rounded <= 28.
void hif8_encode_e4m3(const void* x, const float* scale, uint8_t* out, Samples samples,
                      HiF8Element element, hif8::Of of, cudaStream_t stream);

// out = values of the codes of x·scale, of x's element.
void hif8_code_values(const void* x, const float* scale, void* out, Samples samples,
                      HiF8Element element, hif8::Overflow overflow, cudaStream_t stream);

// The same divided by scale.
void hif8_round(const void* x, const float* scale, void* out, Samples samples, HiF8Element element,
                cudaStream_t stream);

// out = values of codes, divided by scale.
void hif8_decode(const uint8_t* codes, const float* scale, void* out, Samples samples,
                 HiF8Element element, cudaStream_t stream);

}  // namespace ospnext::cuda
