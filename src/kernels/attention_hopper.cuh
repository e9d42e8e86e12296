// The kernel of attention_hopper.cu. In each block, one warp group copies and two compute.
#pragma once

#include <cuda_bf16.h>

#include <type_traits>

#include "kernels/attention_launch.h"
#include "kernels/attention_softmax.cuh"
#include "kernels/hopper.cuh"

namespace ospnext::cuda {

using namespace hopper;

constexpr int kHead = 128;                   // channels of a head
constexpr int kGroups = 2, kGroupRows = 64;  // warp groups that compute, queries of each
constexpr int kRows = kGroups * kGroupRows;  // queries of a block
constexpr int kStages = 2;                   // tiles of keys, and of values, in shared memory
constexpr int kStep = 16;                    // keys of one product with bf16 values
constexpr int kStepBytes = 32;               // bytes of a row of any other operand in one product
constexpr int kThreads = (1 + kGroups) * kWarpgroup;  // the first warp group copies
constexpr int kCopyRegisters = 24, kComputeRegisters = 240;
static_assert((kCopyRegisters + kGroups * kComputeRegisters) * kWarpgroup <=
                  65536 / kThreads / 8 * 8 * kThreads,
              "the block starts with equal shares, and cannot have more later");

// The sizes, the types and the order of the work.
struct DefaultPlan {
  using Scores = Bf16;                   // type of queries and keys
  using Values = Bf16;                   // type of values and weights
  static constexpr int kKeys = 192;      // keys of a tile
  static constexpr float kSlack = 8;     // log2 of the largest weight before sums are rescaled
  static constexpr float kShift = 0;     // log2 of a factor of all weights
  static constexpr bool kTurns = false;  // the two warp groups issue their products in turn
  static constexpr bool kEager = true;  // exponentials are computed while products are running
  static constexpr bool kKeep = true;   // keys and values leave the L2 cache last
};
struct Fp8Plan : DefaultPlan {
  using Scores = E4m3;
  static constexpr bool kTurns = true;
};
// E4M3 weights, from 2^-9 to 448. The tensor cores keep sums of FP8 products with about 14 bits, so
// the products of each tile are summed alone and added to the total in fp32.
struct Fp8ValuesPlan : Fp8Plan {
  using Values = E4m3;
  static constexpr int kKeys = 128;
  static constexpr float kSlack = 0.8F;  // 2^8.8 < 448
  static constexpr float kShift = 8;
};
template <class Plan>
struct WithBias : Plan {
  static constexpr int kKeys = 128;  // smaller tiles: the bias needs registers
};

// The layout of shared memory: offsets and sizes in bytes, from the first multiple of
// kSwizzleBlock. A tile is stored as one box after another. A box is kSwizzleRow bytes wide and has
// all rows of the tile. Each use of a barrier is one phase.
template <class Plan>
struct Shared {
  static constexpr int kBoxes = kHead * Plan::Scores::kBytes / kSwizzleRow;  // of queries, of keys
  // Whether values come as value_columns() (attention_launch.h).
  static constexpr bool kColumns = std::is_same_v<typename Plan::Values, E4m3>;
  static constexpr int kValueBoxes = kColumns ? 1 : kHead * Bf16::kBytes / kSwizzleRow;
  static constexpr int kQueryBox = kGroupRows * kSwizzleRow, kKeyBox = Plan::kKeys * kSwizzleRow;
  static constexpr int kValueBox = (kColumns ? kHead : Plan::kKeys) * kSwizzleRow;
  static constexpr int kQueryTile = kBoxes * kQueryBox, kKeyTile = kBoxes * kKeyBox;
  static constexpr int kValueTile = kValueBoxes * kValueBox;
  static constexpr int kQueries = 0;                                // [kGroups]
  static constexpr int kKeys = kQueries + kGroups * kQueryTile;     // [kStages]
  static constexpr int kValues = kKeys + kStages * kKeyTile;  // [kStages]
  static constexpr int kBarriers = kValues + kStages * kValueTile;
  static constexpr int kBarrierBytes = 128;
  static constexpr int kBytes = kBarriers + kBarrierBytes + kSwizzleBlock;
  static_assert(Plan::kKeys % kStep == 0 && kKeyBox % kSwizzleBlock == 0 && kBytes <= 227 * 1024);
  static_assert(!kColumns || Plan::kKeys == kSwizzleRow, "a tile of columns is one box");
};
// Kinds of barriers. There are kStages of each kind; those of queries are one for each warp group.
enum Barrier { kQueryFull, kQueryEmpty, kKeyFull, kKeyEmpty, kValueFull, kValueEmpty, kUnused };

struct Params {
  CUtensorMap q, k, v;
  __nv_bfloat16* o;
  int64_t o_sample, o_token, o_head;
  float *amax, *lse;
  const float* bias;
  const float *score_factor, *value_factor;  // only for Fp8Plan and plans derived from it
  int H, L, all_keys;  // all_keys: T if every query attends to all keys, else -1
  int tiles, tiles_a_head, segments;  // tiles: of kRows queries
  int offset[kMaxAttentionSegments + 1];       // first token of a segment
  int first_tile[kMaxAttentionSegments + 1];   // first tile of a segment in a head
  int first_value[kMaxAttentionSegments + 1];  // first token or column of a segment in v
};

// A tile of queries of one head: up to kRows queries from `row`. `end` is the end of the segment.
// The queries attend to the keys [key, key + keys). The values of these keys begin at `value`.
struct Work {
  int sample, head, row, end, key, keys, value;
};

// The work of one tile. Tiles are numbered by head, then segment, then row, so blocks that run at
// the same time read the same keys.
__device__ __forceinline__ Work work_of(const Params& p, int tile) {
  const int of_head = tile % p.tiles_a_head, head = tile / p.tiles_a_head;
  int low = 0;
  for (int high = p.segments; high - low > 1;) {  // first_tile[low] <= of_head < first_tile[high]
    const int middle = (low + high) / 2;
    (p.first_tile[middle] <= of_head ? low : high) = middle;
  }
  const int begin = p.offset[low], end = p.offset[low + 1];
  const int row = begin + (of_head - p.first_tile[low]) * kRows;
  const bool own = p.all_keys < 0;
  return {head / p.H,      head % p.H,  row, end, own ? begin : 0, own ? end - begin : p.all_keys,
          p.first_value[low]};
}

template <class Plan>
__device__ __forceinline__ int key_tiles(const Work& work) {
  return (work.keys + Plan::kKeys - 1) / Plan::kKeys;
}

// A position in a ring of kStages tiles. `used` counts the tiles so far.
struct Ring {
  uint32_t used = 0;
  __device__ __forceinline__ int stage() const { return static_cast<int>(used % kStages); }
  __device__ __forceinline__ uint32_t parity() const { return used / kStages % 2; }
};

// The address of the block's shared memory, and the tiles of the block: every tile_step-th from
// first_tile.
template <class Plan>
struct Block {
  uint32_t shared;
  int first_tile, tile_step;
  __device__ __forceinline__ uint32_t barrier(Barrier kind, int which) const {
    return shared + Shared<Plan>::kBarriers + 8 * (kind * kStages + which);
  }
};

// copying

// Starts the copy of one tile of kBoxes boxes of kBoxBytes each.
template <int kBoxes, int kBoxBytes>
__device__ __forceinline__ void copy_boxes(uint32_t to, const CUtensorMap& map, Box box,
                                           uint32_t barrier, uint64_t policy) {
  barrier_expect(barrier, kBoxes * kBoxBytes);
#pragma unroll
  for (int i = 0; i < kBoxes; ++i) {
    copy_box(to + i * kBoxBytes, map, box, barrier, policy);
    box.x += kHead / kBoxes;
  }
}

// Waits for a free stage of the ring and starts the copy of one tile of keys or values into it.
template <int kBoxes, int kBoxBytes, class Plan>
__device__ __forceinline__ void copy_tile(const Block<Plan>& block, const CUtensorMap& map,
                                          const Box& box, uint32_t ring, Barrier full,
                                          Barrier empty, Ring& at,
                                          uint64_t policy) {
  barrier_wait(block.barrier(empty, at.stage()), at.parity() ^ 1);
  copy_boxes<kBoxes, kBoxBytes>(ring + at.stage() * kBoxes * kBoxBytes, map, box,
                                block.barrier(full, at.stage()), policy);
  ++at.used;
}

template <class Plan>
__device__ __forceinline__ void copy_queries(const Block<Plan>& block, const Params& p,
                                             const Work& work, uint32_t parity, uint64_t policy) {
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const Box box{0, work.head, work.row + group * kGroupRows, work.sample};
    barrier_wait(block.barrier(kQueryEmpty, group), parity ^ 1);
    copy_boxes<Shared<Plan>::kBoxes, Shared<Plan>::kQueryBox>(
        block.shared + Shared<Plan>::kQueries + group * Shared<Plan>::kQueryTile, p.q, box,
        block.barrier(kQueryFull, group), policy);
  }
}

// One thread copies all operands of the block in the order of their use: the keys of a tile come
// before the values of the previous tile. The last tile of a segment, which may need a mask, is the
// first.
template <class Plan>
__device__ __forceinline__ void copy_all(const Block<Plan>& block, const Params& p) {
  const uint64_t pass = pass_through_cache(), keep = Plan::kKeep ? keep_in_cache() : treat_as_any();
  using Memory = Shared<Plan>;
  const uint32_t key_ring = block.shared + Memory::kKeys;
  const uint32_t value_ring = block.shared + Memory::kValues;
  Ring keys, values;
  uint32_t query_parity = 0;
  for (int tile = block.first_tile; tile < p.tiles; tile += block.tile_step) {
    const Work work = work_of(p, tile);
    const int count = key_tiles<Plan>(work);
    if (count == 0) {
      continue;
    }
    for (int i = count - 1; i >= -1; --i) {
      if (i >= 0) {
        const Box box{0, work.head, work.key + i * Plan::kKeys, work.sample};
        copy_tile<Memory::kBoxes, Memory::kKeyBox>(block, p.k, box, key_ring, kKeyFull, kKeyEmpty,
                                                   keys, keep);
      }
      if (i == count - 1) {
        copy_queries(block, p, work, query_parity, pass);
        query_parity ^= 1;
      } else {
        const int first = work.value + (i + 1) * Plan::kKeys;
        const Box box = Memory::kColumns ? Box{first, 0, work.head, work.sample}
                                         : Box{0, work.head, first, work.sample};
        copy_tile<Memory::kValueBoxes, Memory::kValueBox>(block, p.v, box, value_ring, kValueFull,
                                                          kValueEmpty, values, keep);
      }
    }
  }
}

// computing

template <class Plan>
__device__ __forceinline__ void issue_scores(float (&s)[Plan::kKeys / 2], uint64_t q, uint64_t k) {
#pragma unroll
  for (int at = 0; at < Shared<Plan>::kBoxes * kSwizzleRow; at += kStepBytes) {
    const int box = at / kSwizzleRow, along = at % kSwizzleRow;
    multiply_scores(typename Plan::Scores{}, s, advance(q, box * Shared<Plan>::kQueryBox + along),
                    advance(k, box * Shared<Plan>::kKeyBox + along), at > 0);
  }
  products_commit();
}

// Issues o += P V, or o = P V if values come as columns.
template <class Plan, int kWords>
__device__ __forceinline__ void issue_values(float (&o)[kHead / 2], const uint32_t (&p)[kWords],
                                             uint64_t v) {
#pragma unroll
  for (int step = 0; step < kWords / 4; ++step) {
    const uint32_t *at = p + 4 * step;
    if constexpr (Shared<Plan>::kColumns) {
      multiply_values(o, at[0], at[1], at[2], at[3], advance(v, step * kStepBytes), step > 0);
    } else {
      multiply_values(o, at[0], at[1], at[2], at[3], advance(v, step * kStep * kSwizzleRow));
    }
  }
  products_commit();
}

// Divides o by the row sums, multiplies it by `factor` and stores the warp's 16 rows from `row`,
// but none from work.end on. Stores the log-sum-exp and raises amax where they are wanted. `scale`
// turns rows.top into powers of two; `shift` is Plan::kShift.
__device__ __forceinline__ void store_rows(const Params& p, const Work& work, int row,
                                           const float (&o)[kHead / 2], RowSums rows, float scale,
                                           float factor, float shift) {
  float largest = 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = rows.sum[r];
    sum += __shfl_xor_sync(~0U, sum, 1);
    sum += __shfl_xor_sync(~0U, sum, 2);
    const float inverse = sum == 0.0F ? 0.0F : factor / sum;
    const int at = row + lane_id() / 4 + 8 * r, quarter = lane_id() % 4;
    __nv_bfloat16* out = p.o + work.sample * p.o_sample + at * p.o_token + work.head * p.o_head;
#pragma unroll
    for (int part = 0; part < kHead / 32; ++part) {
      uint32_t word[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int first = 4 * (4 * part + i) + 2 * r;
        const float even = o[first] * inverse, odd = o[first + 1] * inverse;
        largest = at < work.end ? fmaxf(largest, fmaxf(fabsf(even), fabsf(odd))) : largest;
        word[i] = pack(even, odd);
      }
      transpose_quad(word);
      if (at < work.end) {
        *reinterpret_cast<uint4*>(out + 32 * part + 8 * quarter) =
            make_uint4(word[0], word[1], word[2], word[3]);
      }
    }
    if (p.lse != nullptr && quarter == 0 && at < work.end) {
      p.lse[(int64_t{work.sample} * p.H + work.head) * p.L + at] =
          sum == 0.0F ? -kInfinity : (rows.top[r] * scale + log2f(sum) - shift) * kLn2;
    }
  }
  if (p.amax != nullptr) {
    const float stored = __bfloat162float(__float2bfloat16_rn(largest));
    raise_shared(p.amax + work.sample, __float_as_uint(stored), lane_id() == 0);
  }
}

// Tells the copying thread that this warp no longer needs a tile of the ring.
template <class Plan>
__device__ __forceinline__ void release(const Block<Plan>& block, Barrier empty,
                                        Ring& at) {
  if (lane_id() == 0) {
    barrier_arrive(block.barrier(empty, at.stage()));
  }
  ++at.used;
}

// Computes 64 queries of each tile of the block in one warp group. The scores of a tile of keys are
// multiplied while the weights of the previous tile are multiplied with their values.
template <class Plan, bool kBias>
__device__ __forceinline__ void compute_all(const Block<Plan>& block, const Params& p, int group) {
  using Memory = Shared<Plan>;
  constexpr int kKeys = Plan::kKeys;
  constexpr bool kFactors = !std::is_same_v<typename Plan::Scores, Bf16>;
  constexpr int kTurn = 1;  // names of the barriers for turns: 1 and 2
  const int warp_row = group * kGroupRows + static_cast<int>(threadIdx.x) % kWarpgroup / kWarp * 16;
  const uint64_t q =
      operand(block.shared + Memory::kQueries + group * Memory::kQueryTile, kSwizzleBlock, 16);
  const uint64_t k = operand(block.shared + Memory::kKeys, kSwizzleBlock, 16);
  const uint64_t v = operand(block.shared + Memory::kValues, kSwizzleBlock, Memory::kValueBox);
  const auto release_queries = [&] {
    if (lane_id() == 0) {
      barrier_arrive(block.barrier(kQueryEmpty, group));
    }
  };
  Ring keys, values;
  uint32_t query_parity = 0;
  if (Plan::kTurns && group == 1) {
    named_arrive(kTurn, kGroups * kWarpgroup);  // the other group has the first turn
  }
  for (int tile = block.first_tile; tile < p.tiles; tile += block.tile_step) {
    const Work work = work_of(p, tile);
    const int count = key_tiles<Plan>(work);
    const float to_logits = kFactors ? kScale * p.score_factor[work.sample] : kScale;
    const float scale = kBias ? 1.0F : to_logits;  // mask_scores() applies to_logits with a bias
    float o[kHead / 2], tile_o[kHead / 2];  // sums; sums of one tile, used for columns
    float (&target)[kHead / 2] = Memory::kColumns ? tile_o : o;
#pragma unroll
    for (float& value : o) {
      value = 0;
    }
    const auto add_tile = [&] {
      pin(target);
      if constexpr (Memory::kColumns) {
#pragma unroll
        for (int i = 0; i < kHead / 2; ++i) {
          o[i] += tile_o[i];
        }
      }
    };
    RowSums rows{{-kInfinity, -kInfinity}, {0, 0}};
    if (count > 0) {
      float s[kKeys / 2], shrink[2];
      uint32_t weights[kKeys / 8 * Plan::Values::kBytes];
      const auto finish_scores = [&](int i) {
        const int valid = work.keys - i * kKeys;
        if (kBias || valid < kKeys) {
          mask_scores<kBias>(s, valid, kBias ? p.bias + work.key + i * kKeys : nullptr,
                             to_logits);
        }
      };
      barrier_wait(block.barrier(kQueryFull, group), query_parity);
      query_parity ^= 1;
      barrier_wait(block.barrier(kKeyFull, keys.stage()), keys.parity());
      products_begin();
      issue_scores<Plan>(s, q, advance(k, keys.stage() * Memory::kKeyTile));
      products_wait<0>();
      pin(s);
      release(block, kKeyEmpty, keys);
      if (count == 1) {
        release_queries();
      }
      finish_scores(count - 1);
      exponentiate<Plan>(s, rows, shrink, scale);
      pack_weights(weights, s);
#pragma unroll 1
      for (int i = count - 2; i >= 0; --i) {
        barrier_wait(block.barrier(kKeyFull, keys.stage()), keys.parity());
        if constexpr (Plan::kTurns) {
          named_sync(kTurn + group, kGroups * kWarpgroup);
        }
        pin(target);
        pin(weights);
        products_begin();
        issue_scores<Plan>(s, q, advance(k, keys.stage() * Memory::kKeyTile));
        barrier_wait(block.barrier(kValueFull, values.stage()), values.parity());
        products_begin();
        issue_values<Plan>(target, weights, advance(v, values.stage() * Memory::kValueTile));
        if constexpr (Plan::kTurns) {
          named_arrive(kTurn + 1 - group, kGroups * kWarpgroup);
        }
        products_wait<1>();
        pin(s);
        release(block, kKeyEmpty, keys);
        if (i == 0) {
          release_queries();
        }
        if constexpr (kBias) {
          finish_scores(i);
        }
        const bool grown = exponentiate<Plan>(s, rows, shrink, scale);
        if constexpr (Plan::kEager) {
          keep_order(rows, block.barrier(kUnused, 0));
        }
        products_wait<0>();
        add_tile();
        release(block, kValueEmpty, values);
        if (grown) {
          multiply_rows(o, shrink);
        }
        pack_weights(weights, s);
      }
      barrier_wait(block.barrier(kValueFull, values.stage()), values.parity());
      pin(target);
      pin(weights);
      products_begin();
      issue_values<Plan>(target, weights, advance(v, values.stage() * Memory::kValueTile));
      products_wait<0>();
      add_tile();
      release(block, kValueEmpty, values);
    }
    store_rows(p, work, work.row + warp_row, o, rows, scale,
               kFactors ? p.value_factor[work.sample] : 1.0F, Plan::kShift);
  }
  if (Plan::kTurns && group == 0) {
    named_sync(kTurn, kGroups * kWarpgroup);  // consumes the last arrival of the other group
  }
}

template <class Plan, bool kBias>
__global__ void __launch_bounds__(kThreads, 1) attention_kernel(const __grid_constant__ Params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t memory[];
  const uint32_t unaligned = shared_address(memory);
  Block<Plan> block;
  block.shared = (unaligned + kSwizzleBlock - 1) / kSwizzleBlock * kSwizzleBlock;
  block.first_tile = static_cast<int>(blockIdx.x);
  block.tile_step = static_cast<int>(gridDim.x);
  if (threadIdx.x == 0) {
    prefetch_map(p.q);
    prefetch_map(p.k);
    prefetch_map(p.v);
    constexpr int kWarps = kWarpgroup / kWarp;
    for (int i = 0; i < kStages; ++i) {
      barrier_init(block.barrier(kKeyFull, i), 1);
      barrier_init(block.barrier(kValueFull, i), 1);
      barrier_init(block.barrier(kKeyEmpty, i), kGroups * kWarps);
      barrier_init(block.barrier(kValueEmpty, i), kGroups * kWarps);
    }
    for (int i = 0; i < kGroups; ++i) {
      barrier_init(block.barrier(kQueryFull, i), 1);
      barrier_init(block.barrier(kQueryEmpty, i), kWarps);
    }
    barrier_init_fence();
  }
  __syncthreads();
  // The shuffle tells the compiler that the number is the same in all lanes of a warp.
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    give_registers_back<kCopyRegisters>();
    if (threadIdx.x == 0) {
      copy_all(block, p);
    }
  } else {
    take_registers<kComputeRegisters>();
    compute_all<Plan, kBias>(block, p, warpgroup - 1);
  }
#endif
}

}  // namespace ospnext::cuda
