// What a mesh of processes would take for one denoising step, predicted from measured blocks and counted bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"
#include "models/transformer_config.h"
#include "parallel/mesh.h"

namespace ospnext {

// Seconds of a block on one device: for each token (all that is pointwise), for each pair of a query and a key, and for
// each token in each turn of a ring, whose results are joined.
struct BlockCosts {
  double token = 0;
  double pair = 0;
  double turn = 0;
};

// From two measured blocks of the transformer, full and sparse, with the tokens of a grid; without turns.
BlockCosts block_costs(double full_seconds, double sparse_seconds, const Grid& grid,
                       const TransformerConfig& transformer);
// Of a token in a turn, from the seconds by which attention to all tokens takes longer in two parts.
double turn_cost(double longer_seconds, const Grid& grid);

// On an H200: of whole passes of the 14B model at 720P in bf16 or hif8 (docs/performance.md), for a transformer of other
// widths scaled by the floating-point operations.
BlockCosts h200_block_costs(const TransformerConfig& transformer, bool hif8);

// Floating-point operations of a block: of its linear layers for a token, those of the text apart, and of
// self-attention for a pair of a query and a key.
double linear_flops(const TransformerConfig& config);
double pair_flops(const TransformerConfig& config);

struct PlanSubject {
  TransformerConfig transformer;
  Grid grid;
  bool two_passes = true;
  int64_t value_bytes = 2;   // of activations that are exchanged
  int64_t weight_bytes = 2;  // of a weight of the blocks
  bool shard_weights = false;
  BlockCosts costs;
  // Of NCCL on eight H200s of a host, as others measured it.
  double link_bytes = 203e9;  // that a rank sends in a second
  double latency = 30e-6;     // seconds of an exchange of nothing

  // Of exchanges that send so much.
  double seconds(int64_t bytes, int64_t exchanges) const;
};

struct Plan {
  Mesh mesh;
  double compute = 0;     // seconds a step of the slowest rank, block by block
  double exchange = 0;    // seconds a step that exchanges add to that
  int64_t bytes = 0;      // that the busiest rank sends in a step
  int64_t exchanges = 0;  // of a rank in a step
  int64_t memory = 0;     // bytes of a rank: weights, and what a block holds of its tokens
  double seconds() const { return compute + exchange; }
};

// Exchanges come between computations, but for what travels beside them as far as they last: keys and values of a ring
// beside its attention, weights beside all.
Plan predict(const Mesh& mesh, const PlanSubject& subject);

// The mesh of choose_mesh() by predicted seconds.
Mesh fastest_mesh(int ranks, const MeshFields& flags, const MeshSubject& meshes,
                  const PlanSubject& subject);

}  // namespace ospnext
