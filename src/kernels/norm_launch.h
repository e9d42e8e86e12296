// CUDA kernels of norm.h. Pointers point to device memory aligned to 16 bytes. Activations
// [B, L, C] have type `element`; all else is float32. C is a multiple of 8 and at most 8192.
#pragma once

#include "kernels/cuda_launch.h"

namespace ospnext::cuda {

// The rotation of each token's pairs of channels: [L, D/2, 2] (cosine, sine), the same for each of
// the C/D heads. D is a multiple of 8. Null: no rotation.
struct HeadRotation {
  const float* rotation;
  int D;
};

// out = rotated(x / sqrt(mean(x²) + eps) · weight). weight [C]. amax [B] is raised to the largest
// magnitude of each sample of out, or null.
void rms_norm_rotate(const void* x, const float* weight, HeadRotation turn, void* out, float* amax,
                     Rows rows, float eps, Element element, cudaStream_t stream);

// From grad [B, L, C] of the output: grad_x [B, L, C], and grad_weight [B, G, C] as partial sums.
// The caller adds them up over B and G = column_sum_groups(L).
void rms_norm_rotate_backward(const void* grad, const void* x, const float* weight,
                              HeadRotation turn, void* grad_x, float* grad_weight, Rows rows,
                              float eps, Element element, cudaStream_t stream);

// out = silu(x / sqrt(mean(x²) + eps) · weight). Samples of out are `out_stride` elements apart. C
// is at most kMostSiluChannels.
constexpr int64_t kMostSiluChannels = 512;
void rms_norm_silu(const void* x, const float* weight, void* out, int64_t out_stride, Rows rows,
                   float eps, Element element, cudaStream_t stream);

}  // namespace ospnext::cuda
