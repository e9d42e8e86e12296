#include "core/torch/host_memory.h"

#ifdef OSPNEXT_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include <string>

#include "core/error.h"
#endif

namespace ospnext {
namespace {

constexpr int64_t kAlignment = 256;  // bytes

int64_t aligned_bytes(const at::Tensor& x) {
  return (static_cast<int64_t>(x.nbytes()) + kAlignment - 1) / kAlignment * kAlignment;
}

#ifdef OSPNEXT_CUDA
at::Tensor pinned_bytes(int64_t bytes, at::Device device) {
  const c10::cuda::OptionalCUDAGuard guard(device);
  void* data = nullptr;
  if (const cudaError_t error = cudaHostAlloc(&data, bytes, cudaHostAllocPortable);
      error != cudaSuccess) {
    cudaGetLastError();  // which later calls would report again
    throw RunError("the host has no room for " + std::to_string(bytes >> 20) +
                   " MiB of pinned memory: " + cudaGetErrorString(error));
  }
  const auto free = [](void* memory) {
    cudaDeviceSynchronize();  // copies may still read or write it
    cudaFreeHost(memory);
  };
  return at::from_blob(data, {bytes}, free, at::TensorOptions().dtype(at::kByte)).zero_();
}
#endif

}  // namespace

at::Tensor host_memory(int64_t bytes, [[maybe_unused]] at::Device device) {
#ifdef OSPNEXT_CUDA
  if (device.is_cuda() && bytes > 0) {
    return pinned_bytes(bytes, device);
  }
#endif
  return at::zeros({bytes}, at::TensorOptions().dtype(at::kByte));
}

std::vector<at::Tensor> host_zeros_like(const std::vector<at::Tensor>& tensors, at::Device device) {
  int64_t bytes = 0;
  for (const at::Tensor& x : tensors) {
    bytes += aligned_bytes(x);
  }
  const at::Tensor memory = host_memory(bytes, device);
  std::vector<at::Tensor> zeros;
  int64_t next = 0;
  for (const at::Tensor& x : tensors) {
    zeros.push_back(memory.narrow(0, next, static_cast<int64_t>(x.nbytes()))
                        .view(x.scalar_type())
                        .view(x.sizes()));  // x's shape
    next += aligned_bytes(x);
  }
  return zeros;
}

}  // namespace ospnext
