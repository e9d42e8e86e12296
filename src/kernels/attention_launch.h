// CUDA kernel of attention.h for Hopper (compute capability 9.0), forward only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ospnext::cuda {

// A tensor [B, tokens, H, 128] in memory aligned to 16 bytes. Strides are in elements, multiples of 16 bytes
// and not zero; the channels of a head are adjacent. Views of one packed qkv are such tensors.
struct HeadsOfTokens {
  void* data;
  int64_t sample, token, head;  // strides
};

struct AttentionArgs {
  HeadsOfTokens q;            // [B, L, H, 128], bf16, or E4M3 if there is a score_factor
  HeadsOfTokens k, v;         // [B, T, H, 128], k as q, v bf16
  const void* value_columns;  // E4M3, as launch_value_columns() lays it out, instead of v; or null
  HeadsOfTokens o;            // [B, L, H, 128], bf16, written
  float* amax;                // [B], raised to the largest magnitude of o in each sample; or null
  float* lse;          // [B, H, L], written: log Σ exp(q·k/√128 + bias) of each query; or null
  const float* bias;   // [T], added to the logits of a key, or null; only without segments
  int64_t B, L, T, H;  // any may be 0; without keys o is 0 and lse -infinity
  const int64_t*
      offsets;       // [S + 1] from 0 to L = T, ascending, on the host: a query attends to its own
  int64_t segments;  // segment; or null and 0: it attends to all T keys
  // [B] on the device, both or neither: what q·k and v of a sample are to be multiplied by, for operands that stand
  // for smaller or larger numbers than they are
  const float *score_factor, *value_factor;
};

constexpr int64_t kMaxAttentionSegments = 128;

// Values for a product with weights in E4M3, whose operand the tensor cores want key by key: [B, H, 128, columns]
// E4M3. Each segment begins at a multiple of 16 columns; its keys stand in groups of 16, in which key 8·j + 2·q + i
// (i, j = 0 or 1) has column 4·q + 2·j + i, where the softmax leaves its weight; what is left over holds zeros.
// `offsets` [segments + 1] as in AttentionArgs; null and 0: one segment of all T.
int64_t value_columns(const int64_t* offsets, int64_t segments, int64_t T);
constexpr int kColumnGroup = 16;
// Columns of a segment.
constexpr int64_t columns_of(int64_t keys) {
  return (keys + kColumnGroup - 1) / kColumnGroup * kColumnGroup;
}

// v: E4M3 [B, T, H, 128] -> columns, aligned to 16 bytes. Any GPU.
cudaError_t launch_value_columns(const HeadsOfTokens& v, void* columns, int64_t B, int64_t T,
                                 int64_t H, const int64_t* offsets, int64_t segments,
                                 cudaStream_t stream);

// softmax(q kᵀ / √128 + bias) v. With value_columns the weights are rounded to E4M3 too, after they were summed. Keys and values must be finite, also of other segments: a tile of keys that
// passes the end of a segment multiplies its neighbour's values by zero.
// cudaErrorNotSupported on other GPUs than Hopper's, cudaErrorInvalidValue where `args` breaks the above.
cudaError_t launch_attention(const AttentionArgs& args, cudaStream_t stream);

}  // namespace ospnext::cuda
