// Transposes E4M3 values from one row per token to one row per channel, for launch_attention() with
// E4M3 weights. Memory is the limit: one byte is read and one written per element. For sm_80 and
// up.
#include <algorithm>

#include "kernels/attention_launch.h"

namespace ospnext::cuda {
namespace {

constexpr int kHead = 128, kWarps = 8, kLanes = 32;
constexpr int kTile = 128;         // columns of a block
constexpr int kQuads = kTile / 4;  // a thread moves 4 channels of 4 keys at a time
constexpr int kQuadsOfGroup = kColumnGroup / 4;

struct Segments {
  int count;
  int offset[kMaxAttentionSegments + 1];  // first key of each segment
  int column[kMaxAttentionSegments + 1];  // first column of each segment
};

// Transposes a 4 x 4 matrix of bytes, one row per word.
__device__ void transpose_bytes(uint32_t (&row)[4]) {
  const uint32_t a = __byte_perm(row[0], row[1], 0x5140), b = __byte_perm(row[2], row[3], 0x5140);
  const uint32_t c = __byte_perm(row[0], row[1], 0x7362), d = __byte_perm(row[2], row[3], 0x7362);
  row[0] = __byte_perm(a, b, 0x5410);
  row[1] = __byte_perm(a, b, 0x7632);
  row[2] = __byte_perm(c, d, 0x5410);
  row[3] = __byte_perm(c, d, 0x7632);
}

// A block writes kTile columns of one head (y of the grid) of one sample (z of the grid).
__global__ void __launch_bounds__(kWarps* kLanes)
    columns_kernel(HeadsOfTokens v, uint8_t* columns, const __grid_constant__ Segments segments) {
  // Word w of channel c is at tile[c][w ^ c / 4], so lanes access different banks.
  __shared__ uint32_t tile[kHead][kQuads];
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int first = static_cast<int>(blockIdx.x) * kTile, all = segments.column[segments.count];
  const auto* from =
      static_cast<const uint8_t*>(v.data) + blockIdx.z * v.sample + blockIdx.y * v.head + 4 * lane;
#pragma unroll
  for (int i = 0; i < kQuads / kWarps; ++i) {
    const int quad = i * kWarps + warp, column = first + 4 * quad;
    int low = 0;
    for (int high = segments.count; high - low > 1;) {  // column[low] <= column < column[high]
      const int middle = (low + high) / 2;
      (segments.column[middle] <= column ? low : high) = middle;
    }
    const int key = segments.offset[low] +
                    (column - segments.column[low]) / kColumnGroup * kColumnGroup +
                    quad % kQuadsOfGroup * 2;
    uint32_t word[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = key + j / 2 * 8 + j % 2;
      word[j] = at < segments.offset[low + 1]
                    ? *reinterpret_cast<const uint32_t*>(from + at * v.token)
                    : 0U;
    }
    transpose_bytes(word);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      tile[4 * lane + j][quad ^ lane] = word[j];
    }
  }
  __syncthreads();
  const int64_t row = (int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * kHead;
  if (first + 4 * lane < all) {
    for (int c = warp; c < kHead; c += kWarps) {
      *reinterpret_cast<uint32_t*>(columns + (row + c) * all + first + 4 * lane) =
          tile[c][lane ^ c / 4];
    }
  }
}

}  // namespace

int64_t value_columns(const int64_t* offsets, int64_t segments, int64_t T) {
  int64_t columns = segments == 0 ? columns_of(T) : 0;
  for (int64_t s = 0; s < segments; ++s) {
    columns += columns_of(offsets[s + 1] - offsets[s]);
  }
  return columns;
}

cudaError_t launch_value_columns(const HeadsOfTokens& v, void* columns, int64_t B, int64_t T,
                                 int64_t H, const int64_t* offsets, int64_t segments,
                                 cudaStream_t stream) {
  constexpr int64_t kMost = int64_t{1} << 30, kMostBlocks = 65535;
  if (segments > kMaxAttentionSegments || T > kMost || std::max(B, H) > kMostBlocks ||
      reinterpret_cast<uintptr_t>(columns) % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  const int64_t whole[] = {0, T};
  Segments s{};
  s.count = static_cast<int>(std::max<int64_t>(segments, 1));
  for (int i = 0; i < s.count; ++i) {
    const int64_t* range = segments == 0 ? whole : offsets + i;
    if (range[1] < range[0] || range[1] > T) {
      return cudaErrorInvalidValue;
    }
    s.offset[i] = static_cast<int>(range[0]);
    s.offset[i + 1] = static_cast<int>(range[1]);
    s.column[i + 1] = s.column[i] + static_cast<int>(columns_of(range[1] - range[0]));
  }
  const int64_t tiles = (s.column[s.count] + kTile - 1) / kTile;
  if (tiles * H * B == 0) {
    return cudaSuccess;
  }
  const dim3 blocks(static_cast<unsigned>(tiles), static_cast<unsigned>(H),
                    static_cast<unsigned>(B));
  columns_kernel<<<blocks, kWarps * kLanes, 0, stream>>>(v, static_cast<uint8_t*>(columns), s);
  return cudaGetLastError();
}

}  // namespace ospnext::cuda
