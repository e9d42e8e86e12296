// CUDA kernels of norm.h. Pointers are to device memory aligned to 16 bytes; activations [B, L, C] are of
// `element`, everything else float32; C is a multiple of 8 and at most 8192.
#pragma once

#include "kernels/cuda_launch.h"

namespace ospnext::cuda {

// How far the pairs of channels of a token are turned: rotation [L, D/2, 2], the same for each of the C/D
// heads; D is a multiple of 8. No rotation: null.
struct HeadRotation {
  const float* rotation;
  int D;
};

// out = turned(x / sqrt(mean(x²) + eps)·weight); weight [C]; amax [B], raised to the largest magnitude of each sample,
// or null.
void rms_norm_rotate(const void* x, const float* weight, HeadRotation turn, void* out, float* amax,
                     Rows rows, float eps, Element element, cudaStream_t stream);

// From grad [B, L, C] of the output: grad_x, and grad_weight [B, G, C] to add up over B and over
// G = column_sum_groups(L).
void rms_norm_rotate_backward(const void* grad, const void* x, const float* weight,
                              HeadRotation turn, void* grad_x, float* grad_weight, Rows rows,
                              float eps, Element element, cudaStream_t stream);

// out = silu(x / sqrt(mean(x²) + eps)·weight), samples of out `out_stride` elements apart; C at most kMostSiluChannels.
constexpr int64_t kMostSiluChannels = 512;
void rms_norm_silu(const void* x, const float* weight, void* out, int64_t out_stride, Rows rows,
                   float eps, Element element, cudaStream_t stream);

}  // namespace ospnext::cuda
