// The ranks that share the tokens of one video, and the groups in which they compute attention.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/process_group.h"

namespace ospnext {

// Sparse sequence parallelism (SSP): each of `ssp` owners has whole segments of a sparse layout.
// ulysses·ring ranks share the tokens of one owner.
struct SequenceMesh {
  int ssp = 1, ulysses = 1, ring = 1;
  int sharers() const { return ulysses * ring; }
  int size() const { return ssp * sharers(); }
  bool operator==(const SequenceMesh&) const = default;
};

// The two groups that this rank belongs to in one kind of attention. During attention each rank of
// `ulysses` holds a part of the heads, and each rank of `ring` a part of the tokens.
struct AttentionRanks {
  ProcessGroup ulysses, ring;
};

struct SequenceRanks {
  ProcessGroup all;  // this rank is (owner·mesh.ring + ring rank)·mesh.ulysses + Ulysses rank
  SequenceMesh mesh;
  AttentionRanks within;  // for sparse attention: among the ranks of one owner
  AttentionRanks across;  // for full attention: among all ranks
};

// The ranks first, first + step, first + 2·step, ...: `count` of them.
std::vector<int> every(int first, int count, int step);

// The groups of a mesh of all.size() ranks. num_heads is a multiple of mesh.ulysses.
SequenceRanks sequence_ranks(const ProcessGroup& all, const SequenceMesh& mesh, int64_t num_heads);

// The size of the Ulysses groups in full attention: the largest number that divides both the ranks
// and the heads; with one owner, mesh.ulysses. mesh.size() / full_ulysses() ranks form a ring.
int full_ulysses(const SequenceMesh& mesh, int64_t num_heads);

// Which tokens the ranks of this rank's attention groups hold.
struct AttentionShards {
  AttentionRanks ranks;
  // tokens[i]: the tokens of Ulysses rank i before and after attention
  std::vector<int64_t> tokens;
  // segments[r][s]: how many tokens of segment s ring rank r holds during attention, maybe zero
  std::vector<std::vector<int64_t>> segments;
};

}  // namespace ospnext
