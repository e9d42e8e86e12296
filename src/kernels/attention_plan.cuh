// Plans, shared memory, arguments and division of work of the attention kernel
// (attention_hopper.cuh).
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/attention_launch.h"
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
constexpr int kTurn = 1;  // names of the barriers for turns: kTurn and kTurn + 1
// Kinds of barriers. There are kStages of each kind; those of queries are one for each warp group.
enum Barrier { kQueryFull, kQueryEmpty, kKeyFull, kKeyEmpty, kValueFull, kValueEmpty, kUnused };

struct Params {
  CUtensorMap q, k, v;
  __nv_bfloat16* o;
  int64_t o_sample, o_token, o_head;
  float *amax, *lse;
  const float* bias;
  const float *q_scale, *k_scale, *v_scale;  // only for Fp8Plan and plans derived from it
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

}  // namespace ospnext::cuda
