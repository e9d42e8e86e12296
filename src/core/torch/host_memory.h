// Host memory for tensors that a device needs only at times.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// [bytes] uint8, zeros. Beside a GPU it is pinned, so that copies to and from the device run beside
// other work. It takes so many bytes and no more: LibTorch's own pinned memory is rounded up to a
// power of two. Throws RunError if there is no room.
at::Tensor host_memory(int64_t bytes, at::Device device);

// Zeros with the shapes and dtypes of these tensors, in one piece of such memory.
std::vector<at::Tensor> host_zeros_like(const std::vector<at::Tensor>& tensors, at::Device device);

}  // namespace ospnext
