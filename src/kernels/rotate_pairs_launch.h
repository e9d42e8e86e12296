// CUDA kernel of rotate_pairs.h.
#pragma once

#include "kernels/cuda_launch.h"

namespace ospnext::cuda {

// out = x·rotation for pairs of channels, or x·conj(rotation) when `inverse`. x, out [B, L, H, D] of
// `element`, packed, aligned to 16 bytes; rotation [L, D/2, 2] float32; D a multiple of 8.
void rotate_pairs(const void* x, const float* rotation, void* out, int64_t B, int64_t L, int64_t H,
                  int64_t D, bool inverse, Element element, cudaStream_t stream);

}  // namespace ospnext::cuda
