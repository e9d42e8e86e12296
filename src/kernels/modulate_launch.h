// CUDA kernels of modulate.h. Pointers point to device memory aligned to 16 bytes. Activations
// [B, L, C] have type `element`; all else is float32. C is a multiple of 8 and at most 8192.
#pragma once

#include "kernels/cuda_launch.h"

namespace ospnext::cuda {

// out = LN(x)·(1 + scale) + shift. shift, scale [B, C]. amax [B] is raised to the largest magnitude
// of each sample of out, or null.
void layer_norm_modulate(const void* x, const float* shift, const float* scale, void* out,
                         float* amax, Rows rows, float eps, Element element, cudaStream_t stream);

// From grad [B, L, C] of the output: grad_x [B, L, C], and grad_shift and grad_scale [B, G, C] as
// partial sums. The caller adds them up over G = column_sum_groups(L).
void layer_norm_modulate_backward(const void* grad, const void* x, const float* scale, void* grad_x,
                                  float* grad_shift, float* grad_scale, Rows rows, float eps,
                                  Element element, cudaStream_t stream);

// out = x + y·gate; gate [B, C].
void add_gated(const void* x, const void* y, const float* gate, void* out, Rows rows,
               Element element, cudaStream_t stream);

// From grad [B, L, C] of the output: grad_y [B, L, C], and grad_gate [B, G, C] as partial sums, to
// be added up over G.
void add_gated_backward(const void* grad, const void* y, const float* gate, void* grad_y,
                        float* grad_gate, Rows rows, Element element, cudaStream_t stream);

}  // namespace ospnext::cuda
