// Gathers rows by an index. Memory is the limit: each row is read once and written once, 16 bytes
// per thread at a time.
#include "kernels/permute_tokens_launch.h"

namespace ospnext::cuda {
namespace {

constexpr int kThreads = 128;  // threads that share a row
constexpr int kRows = 2;       // rows of a block at a time
constexpr int kInFlight = 5;   // reads of a thread before its first write

__global__ void __launch_bounds__(kThreads* kRows)
    gather_rows_kernel(const uint4* x, const int64_t* index, uint4* out, int64_t L, int64_t l,
                       int vectors) {
  const int64_t i = int64_t{blockIdx.x} * kRows + threadIdx.y;
  if (i >= l) {
    return;
  }
  const uint4* from = x + (blockIdx.y * L + index[i]) * vectors;
  uint4* to = out + (blockIdx.y * l + i) * vectors;
  for (int first = static_cast<int>(threadIdx.x); first < vectors; first += kInFlight * kThreads) {
    uint4 part[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      if (first + j * kThreads < vectors) {
        part[j] = from[first + j * kThreads];
      }
    }
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      if (first + j * kThreads < vectors) {
        to[first + j * kThreads] = part[j];
      }
    }
  }
}

}  // namespace

void gather_rows(const void* x, const int64_t* index, void* out, int64_t B, int64_t L, int64_t l,
                 int64_t row_bytes, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>((l + kRows - 1) / kRows), static_cast<unsigned>(B));
  gather_rows_kernel<<<blocks, dim3(kThreads, kRows), 0, stream>>>(
      static_cast<const uint4*>(x), index, static_cast<uint4*>(out), L, l,
      static_cast<int>(row_bytes / static_cast<int64_t>(sizeof(uint4))));
}

}  // namespace ospnext::cuda
