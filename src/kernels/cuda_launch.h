// What the launchers of CUDA kernels share; free of torch headers, which nvcc takes minutes to read.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ospnext::cuda {

enum class Element { kFloat, kBf16 };

// Rows of channels: B samples of L tokens of C channels, packed.
struct Rows {
  int64_t B, L, C;
};

// Into how many partial sums over a sample's L rows a column sum is divided: a multiple of 8.
constexpr int64_t column_sum_groups(int64_t L) {
  constexpr int64_t kRowsEach = 32, kMost = 512;
  const int64_t groups = ((L + kRowsEach - 1) / kRowsEach + 7) / 8 * 8;
  return groups < kMost ? groups : kMost;
}

}  // namespace ospnext::cuda
