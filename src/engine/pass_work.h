// What one pass of the transformer computes and sends on the ranks that share a video, block by
// block, counted from the layouts.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"
#include "models/transformer_config.h"
#include "parallel/sequence_ranks.h"

namespace ospnext {

// A number for each rank.
using RankCounts = std::vector<int64_t>;

// Pairs of a query and a key in segments of these lengths.
int64_t pairs_in(const std::vector<int64_t>& lengths);

struct BlockWork {
  Pattern pattern;            // of its self-attention
  RankCounts switched;        // tokens sent to come into its layout; empty: none
  RankCounts tokens;          // in its layout
  double pairs = 0;           // of queries and keys, of the busiest rank
  int ulysses = 1, ring = 1;  // ranks of its self-attention

  // Tokens of the busiest rank.
  int64_t most_tokens() const;
  // Tokens sent, of which each other rank of Ulysses gets its heads, and tokens sent back.
  RankCounts to_heads() const;
  RankCounts to_tokens() const;
  // Tokens whose keys a rank passes on in a turn of the ring: about those that it holds at first.
  RankCounts held() const;
};

// The blocks of one pass over one video, on ranks that share its tokens.
std::vector<BlockWork> pass_work(const TransformerConfig& transformer, const Grid& grid,
                                 const SequenceMesh& mesh);

// Sums up what ranks send in exchanges in which all of them take part.
class SentBytes {
 public:
  explicit SentBytes(int ranks) : bytes_(ranks, 0) {}
  // `times` exchanges in which rank i sends rows[i] rows. One rank sends nothing.
  void add(const RankCounts& rows, int64_t row_bytes, int64_t times = 1);
  // Of the rank that sends most.
  int64_t bytes() const;
  int64_t exchanges() const { return exchanges_; }

 private:
  RankCounts bytes_;
  int64_t exchanges_ = 0;
};

}  // namespace ospnext
