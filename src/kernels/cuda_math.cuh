// Small device functions that several kernels use.
#pragma once

#include <cuda_runtime_api.h>

namespace ospnext::cuda {

// 2^x to 2^-22, without the steps that save the smallest numbers.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Raises *amax, which all warps share and which only grows, to the largest of a warp's numbers, given as the bits of
// floats that are not negative; `first` in one lane alone.
__device__ __forceinline__ void raise_shared(float* amax, unsigned bits, bool first) {
  const unsigned largest = __reduce_max_sync(~0U, bits);
  auto* shared = reinterpret_cast<unsigned*>(amax);
  if (first && largest > *static_cast<volatile unsigned*>(shared)) {
    atomicMax(shared, largest);
  }
}

}  // namespace ospnext::cuda
