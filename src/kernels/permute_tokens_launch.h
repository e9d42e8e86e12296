// The CUDA kernel of permute_tokens.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ospnext::cuda {

// out[b, i] = x[b, index[i]]. x [B, L] and out [B, l] are contiguous rows of `row_bytes` bytes, a
// multiple of 16, aligned to 16 bytes. index [l] is on the device.
void gather_rows(const void* x, const int64_t* index, void* out, int64_t B, int64_t L, int64_t l,
                 int64_t row_bytes, cudaStream_t stream);

}  // namespace ospnext::cuda
