#include "kernels/cuda_rows.cuh"
#include "kernels/rotate_pairs_launch.h"

namespace ospnext::cuda {
namespace {

constexpr int kBlock = 256;

template <class T>
__global__ void rotate_pairs_kernel(const T* x, const float* rotation, T* out, int64_t vectors,
                                    int64_t L, int64_t H, int64_t D, float sign) {
  const int64_t vector = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (vector >= vectors) {
    return;
  }
  const int64_t of_head = D / kVector;
  const int64_t token = vector / (of_head * H) % L;
  const Channels turn = load_channels(rotation + token * D + vector % of_head * kVector);
  Channels pairs = load_channels(x + vector * kVector);
#pragma unroll
  for (int i = 0; i < kVector; i += 2) {
    const float re = pairs.value[i], im = pairs.value[i + 1];
    const float c = turn.value[i], s = sign * turn.value[i + 1];
    pairs.value[i] = re * c - im * s;
    pairs.value[i + 1] = re * s + im * c;
  }
  store_channels(out + vector * kVector, pairs);
}

}  // namespace

void rotate_pairs(const void* x, const float* rotation, void* out, int64_t B, int64_t L, int64_t H,
                  int64_t D, bool inverse, Element element, cudaStream_t stream) {
  const int64_t vectors = B * L * H * D / kVector;
  const auto blocks = static_cast<unsigned>((vectors + kBlock - 1) / kBlock);
  const float sign = inverse ? -1.0F : 1.0F;
  if (element == Element::kBf16) {
    rotate_pairs_kernel<<<blocks, kBlock, 0, stream>>>(static_cast<const __nv_bfloat16*>(x),
                                                       rotation, static_cast<__nv_bfloat16*>(out),
                                                       vectors, L, H, D, sign);
  } else {
    rotate_pairs_kernel<<<blocks, kBlock, 0, stream>>>(
        static_cast<const float*>(x), rotation, static_cast<float*>(out), vectors, L, H, D, sign);
  }
}

}  // namespace ospnext::cuda
