// The CUDA kernel of attention.h for Hopper (compute capability 9.0), forward only.
//
// T is the number of key tokens, S the number of segments.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ospnext::cuda {

// A tensor [B, tokens, H, 128] in memory aligned to 16 bytes. Strides are in elements, multiples of
// 16 bytes and not 0. The channels of a head are contiguous. Views of one packed qkv tensor fit.
struct HeadsOfTokens {
  void* data;
  int64_t sample, token, head;  // strides
};

struct AttentionArgs {
  HeadsOfTokens q;            // [B, L, H, 128], bf16, or E4M3 if there is a q_scale
  HeadsOfTokens k, v;         // [B, T, H, 128], k of q's type, v bf16
  const void* value_columns;  // E4M3 values of launch_value_columns(), used instead of v; or null
  HeadsOfTokens o;            // [B, L, H, 128], bf16, written
  float* amax;                // [B], raised to the largest magnitude of o in each sample; or null
  float* lse;          // [B, H, L], written: log Σ exp(q·k/√128 + bias) of each query; or null
  const float* bias;   // [T], added to the logits of each key; or null. Only without segments
  int64_t B, L, T, H;  // any may be 0; with T = 0, o is 0 and lse is -infinity
  // Segments: a query attends to the keys of its own segment, tokens offsets[s] to offsets[s + 1].
  // `offsets` [S + 1] is on the host and ascends from 0 to L = T; `segments` is S. Null and 0:
  // every query attends to all T keys.
  const int64_t* offsets;
  int64_t segments;
  // [B] on the device: the scales of a sample's operands, by which scores and values are divided.
  // All set or all null.
  const float *q_scale, *k_scale, *v_scale;
};

constexpr int64_t kMaxAttentionSegments = 128;

// The number of columns of E4M3 values [B, H, 128, columns], the operand of a product with E4M3
// weights. FP8 tensor cores read this operand with its keys contiguous, so values are transposed.
// `offsets` [S + 1] and `segments` as in AttentionArgs; null and 0: one segment of all T keys.
//
// Each segment begins at a multiple of 16 columns. Its keys come in groups of 16. In a group, key
// 8·j + 2·q + i (i, j = 0 or 1, q = 0 to 3) has column 4·q + 2·j + i: the order in which the
// softmax leaves the weights in registers. Columns without a key hold zeros.
int64_t value_columns(const int64_t* offsets, int64_t segments, int64_t T);
constexpr int kColumnGroup = 16;
// The number of columns of a segment.
constexpr int64_t columns_of(int64_t keys) {
  return (keys + kColumnGroup - 1) / kColumnGroup * kColumnGroup;
}

// Writes v, E4M3 [B, T, H, 128], to `columns` [B, H, 128, columns], aligned to 16 bytes, in the
// order above. For any GPU. cudaErrorInvalidValue if the arguments break these rules.
cudaError_t launch_value_columns(const HeadsOfTokens& v, void* columns, int64_t B, int64_t T,
                                 int64_t H, const int64_t* offsets, int64_t segments,
                                 cudaStream_t stream);

// softmax(q kᵀ / √128 + bias) v. With value_columns, the weights are rounded to E4M3 after they are
// summed. Keys and values must be finite in all segments: a tile of keys that passes the end of a
// segment multiplies values of the next segment by 0. cudaErrorNotSupported on GPUs other than
// Hopper, cudaErrorInvalidValue if `args` break the rules above.
cudaError_t launch_attention(const AttentionArgs& args, cudaStream_t stream);

}  // namespace ospnext::cuda
