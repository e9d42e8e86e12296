// The kernel of attention_hopper.cu. In each block, one warp group copies and two compute.
#pragma once

#include <cuda_bf16.h>

#include <type_traits>

#include "kernels/attention_plan.cuh"
#include "kernels/attention_softmax.cuh"
#include "kernels/hopper.cuh"

namespace ospnext::cuda {

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

// Tells the copying thread that this warp no longer needs its queries.
template <class Plan>
__device__ __forceinline__ void release_queries(const Block<Plan>& block, int group) {
  if (lane_id() == 0) {
    barrier_arrive(block.barrier(kQueryEmpty, group));
  }
}

// A warp group that computes: the descriptors of its queries and of the rings of keys and values,
// and its positions in the rings.
template <class Plan>
struct Group {
  int index;
  uint64_t q, k, v;
  Ring keys, values;
  uint32_t query_parity = 0;

  __device__ __forceinline__ Group(const Block<Plan>& block, int which)
      : index(which),
        q(operand(block.shared + Memory::kQueries + which * Memory::kQueryTile, kSwizzleBlock, 16)),
        k(operand(block.shared + Memory::kKeys, kSwizzleBlock, 16)),
        v(operand(block.shared + Memory::kValues, kSwizzleBlock, Memory::kValueBox)) {}
  __device__ __forceinline__ uint64_t key_tile() const {
    return advance(k, keys.stage() * Memory::kKeyTile);
  }
  __device__ __forceinline__ uint64_t value_tile() const {
    return advance(v, values.stage() * Memory::kValueTile);
  }

 private:
  using Memory = Shared<Plan>;
};

// A tile of queries, its number of tiles of keys, and the factors that turn scores into logits in
// powers of two. With a bias, finish_scores() applies to_logits, and scale is 1.
struct Tile {
  Work work;
  int count;
  float to_logits;  // factor of the scores that products write
  float scale;      // factor of the scores after finish_scores()
};

// The registers of one thread for a tile of queries.
template <class Plan>
struct Fragments {
  RowSums rows;
  float o[kHead / 2], tile_o[kHead / 2];  // sums; sums of one tile of keys, used for columns
  float s[Plan::kKeys / 2];               // scores of a tile of keys, then weights
  uint32_t weights[Plan::kKeys / 8 * Plan::Values::kBytes];  // packed: left operand of P V
  float shrink[2];

  // The registers that the products of weights and values write.
  __device__ __forceinline__ float (&target())[kHead / 2] {
    if constexpr (Shared<Plan>::kColumns) {
      return tile_o;
    } else {
      return o;
    }
  }
};

// Completes o after products of weights and values: for columns, adds the sums of the tile to o.
template <class Plan>
__device__ __forceinline__ void add_tile(Fragments<Plan>& f) {
  pin(f.target());
  if constexpr (Shared<Plan>::kColumns) {
#pragma unroll
    for (int i = 0; i < kHead / 2; ++i) {
      f.o[i] += f.tile_o[i];
    }
  }
}

// Masks the scores of keys beyond the segment in tile i of the keys, and adds the bias.
template <class Plan, bool kBias>
__device__ __forceinline__ void finish_scores(const Params& p, const Tile& tile, int i,
                                              Fragments<Plan>& f) {
  const int valid = tile.work.keys - i * Plan::kKeys;
  if (kBias || valid < Plan::kKeys) {
    mask_scores<kBias>(f.s, valid, kBias ? p.bias + tile.work.key + i * Plan::kKeys : nullptr,
                       tile.to_logits);
  }
}

// Computes the weights of the last tile of keys, which is the first in the order of work.
template <class Plan, bool kBias>
__device__ __forceinline__ void first_weights(const Block<Plan>& block, const Params& p,
                                              const Tile& tile, Group<Plan>& group,
                                              Fragments<Plan>& f) {
  barrier_wait(block.barrier(kQueryFull, group.index), group.query_parity);
  group.query_parity ^= 1;
  barrier_wait(block.barrier(kKeyFull, group.keys.stage()), group.keys.parity());
  products_begin();
  issue_scores<Plan>(f.s, group.q, group.key_tile());
  products_wait<0>();
  pin(f.s);
  release(block, kKeyEmpty, group.keys);
  if (tile.count == 1) {
    release_queries(block, group.index);
  }
  finish_scores<Plan, kBias>(p, tile, tile.count - 1, f);
  exponentiate<Plan>(f.s, f.rows, f.shrink, tile.scale);
  pack_weights(f.weights, f.s);
}

// Issues the products of the queries with a tile of keys, and of the current weights with their
// values. Returns when the scores are complete; the products with values may still run.
template <class Plan>
__device__ __forceinline__ void issue_products(const Block<Plan>& block, Group<Plan>& group,
                                               Fragments<Plan>& f) {
  barrier_wait(block.barrier(kKeyFull, group.keys.stage()), group.keys.parity());
  if constexpr (Plan::kTurns) {
    named_sync(kTurn + group.index, kGroups * kWarpgroup);
  }
  pin(f.target());
  pin(f.weights);
  products_begin();
  issue_scores<Plan>(f.s, group.q, group.key_tile());
  barrier_wait(block.barrier(kValueFull, group.values.stage()), group.values.parity());
  products_begin();
  issue_values<Plan>(f.target(), f.weights, group.value_tile());
  if constexpr (Plan::kTurns) {
    named_arrive(kTurn + 1 - group.index, kGroups * kWarpgroup);
  }
  products_wait<1>();
  pin(f.s);
}

// Computes the weights of tile i of the keys, while the weights of tile i + 1 are multiplied with
// their values. The mask is only needed in the last tile, which first_weights() computes.
template <class Plan, bool kBias>
__device__ __forceinline__ void next_weights(const Block<Plan>& block, const Params& p,
                                             const Tile& tile, int i, Group<Plan>& group,
                                             Fragments<Plan>& f) {
  issue_products(block, group, f);
  release(block, kKeyEmpty, group.keys);
  if (i == 0) {
    release_queries(block, group.index);
  }
  if constexpr (kBias) {
    finish_scores<Plan, kBias>(p, tile, i, f);
  }
  const bool grown = exponentiate<Plan>(f.s, f.rows, f.shrink, tile.scale);
  if constexpr (Plan::kEager) {
    keep_order(f.rows, block.barrier(kUnused, 0));
  }
  products_wait<0>();
  add_tile(f);
  release(block, kValueEmpty, group.values);
  if (grown) {
    multiply_rows(f.o, f.shrink);
  }
  pack_weights(f.weights, f.s);
}

// Multiplies the weights of tile 0 of the keys, the last in the order of work, with their values.
template <class Plan>
__device__ __forceinline__ void last_values(const Block<Plan>& block, Group<Plan>& group,
                                            Fragments<Plan>& f) {
  barrier_wait(block.barrier(kValueFull, group.values.stage()), group.values.parity());
  pin(f.target());
  pin(f.weights);
  products_begin();
  issue_values<Plan>(f.target(), f.weights, group.value_tile());
  products_wait<0>();
  add_tile(f);
  release(block, kValueEmpty, group.values);
}

// Computes 64 queries of each tile of the block in one warp group. The scores of a tile of keys are
// multiplied while the weights of the previous tile are multiplied with their values.
template <class Plan, bool kBias>
__device__ __forceinline__ void compute_all(const Block<Plan>& block, const Params& p, int index) {
  constexpr bool kScaled = !std::is_same_v<typename Plan::Scores, Bf16>;
  const int warp_row = index * kGroupRows + static_cast<int>(threadIdx.x) % kWarpgroup / kWarp * 16;
  Group<Plan> group(block, index);
  if (Plan::kTurns && index == 1) {
    named_arrive(kTurn, kGroups * kWarpgroup);  // the other group has the first turn
  }
  for (int number = block.first_tile; number < p.tiles; number += block.tile_step) {
    const Work work = work_of(p, number);
    const float to_logits =
        kScaled ? kScale * __frcp_rn(p.q_scale[work.sample] * p.k_scale[work.sample]) : kScale;
    const Tile tile{work, key_tiles<Plan>(work), to_logits, kBias ? 1.0F : to_logits};
    Fragments<Plan> f;
#pragma unroll
    for (float& value : f.o) {
      value = 0;
    }
    f.rows = {{-kInfinity, -kInfinity}, {0, 0}};
    if (tile.count > 0) {
      first_weights<Plan, kBias>(block, p, tile, group, f);
#pragma unroll 1
      for (int i = tile.count - 2; i >= 0; --i) {
        next_weights<Plan, kBias>(block, p, tile, i, group, f);
      }
      last_values(block, group, f);
    }
    store_rows(p, work, work.row + warp_row, f.o, f.rows, tile.scale,
               kScaled ? __frcp_rn(p.v_scale[work.sample]) : 1.0F, Plan::kShift);
  }
  if (Plan::kTurns && index == 0) {
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
