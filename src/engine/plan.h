// Predicts the time of one denoising step on a mesh of processes, from measured blocks and counted
// bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"
#include "models/transformer_config.h"
#include "parallel/mesh.h"

namespace ospnext {

// Seconds of a block on one device.
struct BlockCosts {
  double token = 0;  // per token: all pointwise work and linear layers
  double pair = 0;   // per pair of a query and a key
  double turn = 0;   // per token and turn of a ring: joins the partial results
};

// Computes the costs from two measured blocks of the transformer, one full and one sparse, with the
// tokens of `grid`. `turn` stays 0.
BlockCosts block_costs(double full_seconds, double sparse_seconds, const Grid& grid,
                       const TransformerConfig& transformer);
// The cost per token and turn, from the extra seconds that attention to all tokens takes in two
// parts.
double turn_cost(double longer_seconds, const Grid& grid);

// Costs on an H200, from whole passes of the 14B model at 720P in bf16 or HiF8
// (docs/performance.md). For other widths, pairs are scaled by floating-point operations; the cost
// of a token is a part by operations and a part by the width, so that the 1.3B model has its
// measured cost too: that of an H100 at 720P, times the ratio of both cards for the 14B model.
BlockCosts h200_block_costs(const TransformerConfig& transformer, bool hif8);

// Floating-point operations of a block: of its linear layers per token (without those for text),
// and of self-attention per pair of a query and a key.
double linear_flops(const TransformerConfig& config);
double pair_flops(const TransformerConfig& config);

struct PlanSubject {
  TransformerConfig transformer;
  Grid grid;
  bool two_passes = true;
  int64_t value_bytes = 2;   // bytes per exchanged activation
  int64_t weight_bytes = 2;  // bytes per weight of a block
  bool shard_weights = false;
  bool offload = false;  // the blocks' weights wait in host memory
  BlockCosts costs;
  // NCCL on eight H200s of one host, as published by others.
  double link_bytes = 203e9;  // bytes that a rank sends per second
  double latency = 30e-6;     // seconds of an exchange without data
  double host_link = 55e9;    // bytes per second to or from pinned host memory

  // Seconds of `exchanges` exchanges that send `bytes` together.
  double seconds(int64_t bytes, int64_t exchanges) const;
};

struct Plan {
  Mesh mesh;
  double compute = 0;       // seconds per step: the slowest rank, block by block
  double exchange = 0;      // additional seconds per step for exchanges and for offloaded weights
  int64_t bytes = 0;        // bytes that the busiest rank sends per step
  int64_t exchanges = 0;    // exchanges of one rank per step
  int64_t memory = 0;       // bytes of one rank: weights, and a block's activations
  int64_t host_memory = 0;  // bytes of one rank: offloaded weights
  double seconds() const { return compute + exchange; }
};

// Predicts a mesh. Computation waits for exchanges, with two exceptions. The keys and values of a
// ring travel during the ring's attention, and sharded or offloaded weights travel during all
// computation. For these, only the time beyond the computation counts.
Plan predict(const Mesh& mesh, const PlanSubject& subject);

// The mesh of choose_mesh() with the smallest predicted time.
Mesh fastest_mesh(int ranks, const MeshFields& flags, const MeshSubject& meshes,
                  const PlanSubject& subject);

}  // namespace ospnext
