// Memory: what is free, and the most that was used.
#pragma once

#include <torch/torch.h>

#include <cstdint>

namespace ospnext {

// Bytes that `device` can still give, 0 when that is not known. On the CPU what the kernel calls
// available, at most what a memory limit of the control group leaves.
int64_t free_memory(at::Device device);

struct PeakMemory {
  int64_t host_bytes = 0;  // largest resident set, mapped files included
  int64_t cuda_bytes = 0;  // largest allocation of LibTorch; 0 without a GPU
};
// Since the start of the program.
PeakMemory peak_memory(at::Device device);

}  // namespace ospnext
