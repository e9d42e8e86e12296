// Converts tensors to the arguments of our CUDA kernels' launchers. Only in builds with CUDA.
#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>

#include "core/torch/torch.h"
#include "kernels/cuda_launch.h"

namespace ospnext::cuda {

inline Element element_of(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? Element::kBf16 : Element::kFloat;
}

// Whether our kernels take activations x [..., C]: on CUDA, not empty, bf16 or float32, C a
// multiple of 8 and at most 8192.
inline bool takes(const at::Tensor& x) {
  constexpr int64_t kVector = 8, kMostChannels = 8192;
  return x.is_cuda() && x.numel() > 0 && x.size(-1) % kVector == 0 && x.size(-1) <= kMostChannels &&
         (x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kFloat);
}

// The sizes of x [B, L, C].
inline Rows rows_of(const at::Tensor& x) {
  return {x.size(0), x.size(1), x.size(2)};
}

// The memory of `amax` (kernels/amax.h), checked against the samples of x. Null if there is none.
inline float* amax_of(const std::optional<at::Tensor>& amax, const at::Tensor& x) {
  if (!amax) {
    return nullptr;
  }
  TORCH_CHECK(amax->is_contiguous() && amax->scalar_type() == at::kFloat &&
                  amax->device() == x.device() && amax->numel() == x.size(0),
              "amax: expected packed float32 [B] on ", x.device());
  return amax->mutable_data_ptr<float>();
}

// The memory of a contiguous float32 tensor. `x` must outlive its use.
inline const float* floats(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat, "expected packed float32");
  return x.const_data_ptr<float>();
}

}  // namespace ospnext::cuda
