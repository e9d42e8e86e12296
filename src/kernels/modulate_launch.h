// CUDA kernels of modulate.h. Pointers are to device memory aligned to 16 bytes; activations [B, L, C] are
// of `element`, everything else float32; C is a multiple of 8 and at most 8192.
#pragma once

#include "kernels/cuda_launch.h"

namespace ospnext::cuda {

// out = LN(x)·(1 + scale) + shift; shift, scale [B, C]; amax [B], raised to the largest magnitude of each sample, or
// null.
void layer_norm_modulate(const void* x, const float* shift, const float* scale, void* out,
                         float* amax, Rows rows, float eps, Element element, cudaStream_t stream);

// From grad [B, L, C] of the output: grad_x, and sums to add up over G = column_sum_groups(L):
// grad_shift, grad_scale [B, G, C].
void layer_norm_modulate_backward(const void* grad, const void* x, const float* scale, void* grad_x,
                                  float* grad_shift, float* grad_scale, Rows rows, float eps,
                                  Element element, cudaStream_t stream);

// out = x + y·gate; gate [B, C].
void add_gated(const void* x, const void* y, const float* gate, void* out, Rows rows,
               Element element, cudaStream_t stream);

// From grad [B, L, C] of the output: grad_y, and grad_gate [B, G, C] to add up.
void add_gated_backward(const void* grad, const void* y, const float* gate, void* grad_y,
                        float* grad_gate, Rows rows, Element element, cudaStream_t stream);

}  // namespace ospnext::cuda
