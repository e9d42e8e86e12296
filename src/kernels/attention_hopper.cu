// o = softmax(q kᵀ / √128 + bias) v per sample and head, over ragged segments of tokens. Input and
// output are bf16; q and k, or q, k, v and the softmax weights, may be E4M3. Sums are fp32.
//
// The tensor cores are the limit: each pair of query and key costs 4·128 FLOPs and one exponential.
// One warp group computes its softmax while the products of the other run. The kernel is for Hopper
// (sm_90a): the tensor memory accelerator (TMA) copies into a ring of two tiles of keys and two of
// values, products are asynchronous (wgmma), and the weights P stay in registers. A block computes
// 128 queries, 64 in each of two warp groups. Sums are rescaled only when a weight would exceed
// 2^kSlack.
//
// Source: algorithm 2 of FlashAttention-3 with its ping-pong, Shah et al., arXiv 2407.08608.
#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>

#include "kernels/attention_hopper.cuh"
#include "kernels/attention_launch.h"

namespace ospnext::cuda {
namespace {

// A tensor of four dimensions, the contiguous one first, and the strides of the other three. All in
// elements.
struct Dimensions {
  int64_t size[4], stride[3];
};

// A tensor map with boxes kSwizzleRow bytes wide and `rows` long in the other dimensions.
template <class Type>
cudaError_t make_map(CUtensorMap& map, void* data, const Dimensions& x, const int (&rows)[3]) {
  static_assert(std::is_same_v<Type, Bf16> || std::is_same_v<Type, E4m3>);
  constexpr auto kType =
      std::is_same_v<Type, Bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) {
    return error != cudaSuccess ? error : cudaErrorNotSupported;
  }
  cuuint64_t sizes[4], strides[3];
  cuuint32_t box[4] = {kSwizzleRow / Type::kBytes};
  for (int i = 0; i < 4; ++i) {
    sizes[i] = static_cast<cuuint64_t>(x.size[i]);
  }
  for (int i = 0; i < 3; ++i) {
    // A tensor may have any stride along a dimension of size 1. A tensor map may not.
    const cuuint64_t packed = i == 0 ? Type::kBytes * sizes[0] : strides[i - 1] * sizes[i];
    strides[i] = sizes[i + 1] > 1 ? static_cast<cuuint64_t>(Type::kBytes * x.stride[i]) : packed;
    box[i + 1] = static_cast<cuuint32_t>(rows[i]);
  }
  const cuuint32_t steps[] = {1, 1, 1, 1};
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      &map, kType, 4, data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// A tensor map of x [B, tokens, H, 128]. A box has `rows` tokens and kSwizzleRow bytes of the
// channels of one head.
template <class Type>
cudaError_t make_map(CUtensorMap& map, const HeadsOfTokens& x, int64_t B, int64_t tokens, int64_t H,
                     int rows) {
  return make_map<Type>(map, x.data, {{kHead, H, tokens, B}, {x.head, x.token, x.sample}},
                        {1, rows, 1});
}

// A tensor map of args.value_columns [B, H, 128, columns]. A box has all channels of one head and
// kSwizzleRow columns.
cudaError_t make_columns_map(CUtensorMap& map, const AttentionArgs& args, int64_t columns) {
  return make_map<E4m3>(
      map, const_cast<void*>(args.value_columns),
      {{columns, kHead, args.H, args.B}, {columns, kHead * columns, args.H * kHead * columns}},
      {kHead, 1, 1});
}

bool can_be_stored(const HeadsOfTokens& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.sample % 8 == 0 && x.token % 8 == 0 &&
         x.head % 8 == 0;
}

// Fills in the segments of p. False if args.offsets do not ascend from 0 to L.
bool set_segments(Params& p, const AttentionArgs& args) {
  const int64_t whole[] = {0, args.L};
  const int64_t* offsets = args.segments > 0 ? args.offsets : whole;
  p.segments = static_cast<int>(std::max<int64_t>(args.segments, 1));
  p.all_keys = args.segments > 0 ? -1 : static_cast<int>(args.T);
  p.offset[0] = p.first_tile[0] = p.first_value[0] = 0;
  for (int s = 0; s < p.segments; ++s) {
    const int64_t length = offsets[s + 1] - offsets[s];
    if (length < 0) {
      return false;
    }
    p.offset[s + 1] = static_cast<int>(offsets[s + 1]);
    p.first_tile[s + 1] = p.first_tile[s] + static_cast<int>((length + kRows - 1) / kRows);
    p.first_value[s + 1] = args.value_columns == nullptr
                               ? p.offset[s + 1]
                               : p.first_value[s] + static_cast<int>(columns_of(length));
  }
  p.tiles_a_head = p.first_tile[p.segments];
  p.tiles = static_cast<int>(args.B * args.H * p.tiles_a_head);
  return offsets[0] == 0 && offsets[p.segments] == args.L;
}

template <class Plan, bool kBias>
cudaError_t run(const Params& p, int multiprocessors, cudaStream_t stream) {
  constexpr int kBytes = Shared<Plan>::kBytes;
  const auto kernel = attention_kernel<Plan, kBias>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes)) {
    return error;
  }
  const auto blocks = static_cast<unsigned>(std::max(std::min(multiprocessors, p.tiles), 1));
  kernel<<<blocks, kThreads, kBytes, stream>>>(p);
  return cudaGetLastError();
}

template <class Plan, bool kBias>
cudaError_t launch_with(const AttentionArgs& args, cudaStream_t stream) {
  int device = 0, major = 0, minor = 0, multiprocessors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (major != 9 || minor != 0) {
    return cudaErrorNotSupported;
  }
  if (args.B * args.L * args.H == 0) {
    return cudaSuccess;
  }
  constexpr int64_t kMost = int64_t{1} << 30;
  Params p;
  if (args.segments > kMaxAttentionSegments ||
      (args.segments > 0 && (args.bias || args.L != args.T)) || !can_be_stored(args.o) ||
      (args.q_scale == nullptr) != (args.k_scale == nullptr) ||
      (args.q_scale == nullptr) != (args.v_scale == nullptr) ||
      (args.value_columns != nullptr && args.q_scale == nullptr) ||
      std::max(args.L, args.T) > kMost || !set_segments(p, args) ||
      args.B * args.H * p.tiles_a_head > kMost) {
    return cudaErrorInvalidValue;
  }
  p.o = static_cast<__nv_bfloat16*>(args.o.data);
  p.o_sample = args.o.sample;
  p.o_token = args.o.token;
  p.o_head = args.o.head;
  p.amax = args.amax;
  p.lse = args.lse;
  p.bias = args.bias;
  p.q_scale = args.q_scale;
  p.k_scale = args.k_scale;
  p.v_scale = args.v_scale;
  p.H = static_cast<int>(args.H);
  p.L = static_cast<int>(args.L);
  const bool none = args.T == 0;  // no keys: maps of other tensors, which the kernel never uses
  const int64_t T = none ? args.L : args.T;
  const HeadsOfTokens &k = none ? args.q : args.k, &v = none ? args.o : args.v;
  using Scores = typename Plan::Scores;
  cudaError_t error = make_map<Scores>(p.q, args.q, args.B, args.L, args.H, kGroupRows);
  if (error == cudaSuccess) {
    error = make_map<Scores>(p.k, k, args.B, T, args.H, Plan::kKeys);
  }
  if (error == cudaSuccess && Shared<Plan>::kColumns && !none) {
    error = make_columns_map(p.v, args, value_columns(args.offsets, args.segments, args.T));
  } else if (error == cudaSuccess) {
    error = make_map<Bf16>(p.v, v, args.B, T, args.H, Plan::kKeys);
  }
  if (error != cudaSuccess) {
    return error;
  }
  return run<Plan, kBias>(p, multiprocessors, stream);
}

}  // namespace

cudaError_t launch_attention(const AttentionArgs& args, cudaStream_t stream) {
  if (args.value_columns != nullptr) {
    return args.bias != nullptr ? launch_with<WithBias<Fp8ValuesPlan>, true>(args, stream)
                                : launch_with<Fp8ValuesPlan, false>(args, stream);
  }
  if (args.q_scale != nullptr) {
    return args.bias != nullptr ? launch_with<WithBias<Fp8Plan>, true>(args, stream)
                                : launch_with<Fp8Plan, false>(args, stream);
  }
  return args.bias != nullptr ? launch_with<WithBias<DefaultPlan>, true>(args, stream)
                              : launch_with<DefaultPlan, false>(args, stream);
}

}  // namespace ospnext::cuda
