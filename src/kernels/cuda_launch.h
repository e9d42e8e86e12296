// Types that the launchers of CUDA kernels share. Without torch headers, which take nvcc minutes to
// compile.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ospnext::cuda {

enum class Element { kFloat, kBf16 };

// Rows of channels: contiguous [B, L, C].
struct Rows {
  int64_t B, L, C;
};

// The number of partial sums that a sum over the L rows of a sample is split into: a multiple of 8.
constexpr int64_t column_sum_groups(int64_t L) {
  constexpr int64_t kRowsEach = 32, kMost = 512;
  const int64_t groups = ((L + kRowsEach - 1) / kRowsEach + 7) / 8 * 8;
  return groups < kMost ? groups : kMost;
}

}  // namespace ospnext::cuda
