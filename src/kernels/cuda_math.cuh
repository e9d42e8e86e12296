// Small device functions that several kernels use.
#pragma once

#include <cuda_runtime_api.h>

namespace ospnext::cuda {

// 2^x with a relative error up to 2^-22. Subnormal numbers become 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Raises *amax to the largest number of a warp. `bits` are the bits of each lane's number, a float
// that is not negative. All warps share *amax, and it only grows. `first` is true in one lane only.
__device__ __forceinline__ void raise_shared(float* amax, unsigned bits, bool first) {
  const unsigned largest = __reduce_max_sync(~0U, bits);
  auto* shared = reinterpret_cast<unsigned*>(amax);
  if (first && largest > *static_cast<volatile unsigned*>(shared)) {
    atomicMax(shared, largest);
  }
}

}  // namespace ospnext::cuda
