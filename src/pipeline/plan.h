// What a mesh of processes would take for one denoising step, predicted from measured blocks and counted bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"
#include "models/transformer_config.h"
#include "parallel/mesh.h"

namespace ospnext {

// Seconds of a block on one device: for each token (all that is pointwise) and for each pair of a query and a key.
struct BlockCosts {
  double token = 0;
  double pair = 0;
};

// From two measured blocks of a grid, full and sparse with ratio P, of `measured`; for a transformer of other widths
// scaled by its floating-point operations.
BlockCosts block_costs(double full_seconds, double sparse_seconds, const Grid& grid, int64_t ratio,
                       const TransformerConfig& measured, const TransformerConfig& wanted);

struct PlanSubject {
  TransformerConfig transformer;
  Grid grid;
  bool two_passes = true;
  int64_t value_bytes = 2;   // of activations that are exchanged
  int64_t weight_bytes = 2;  // of a weight of the blocks
  bool shard_weights = false;
  BlockCosts costs;
  double link_bytes = 1;  // that a rank sends in a second
  double latency = 0;     // seconds of an exchange of nothing

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

}  // namespace ospnext
