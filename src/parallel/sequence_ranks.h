// The ranks that share the tokens of one video, and the groups in which they attend.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/process_group.h"

namespace ospnext {

// Sparse sequence parallelism: each of `ssp` owners has whole segments of a sparse layout, which `ulysses` x
// `ring` ranks share.
struct SequenceMesh {
  int ssp = 1, ulysses = 1, ring = 1;
  int sharers() const { return ulysses * ring; }
  int size() const { return ssp * sharers(); }
  bool operator==(const SequenceMesh&) const = default;
};

// In attention the ranks of `ulysses` hold some of the heads each, those of `ring` some of the tokens.
struct AttentionRanks {
  ProcessGroup ulysses, ring;
};

struct SequenceRanks {
  ProcessGroup all;  // rank (owner·ring + ring rank)·ulysses + ulysses rank
  SequenceMesh mesh;
  AttentionRanks within;  // of sparse attention: the ranks of one owner
  AttentionRanks across;  // of full attention: all
};

// `count` ranks from `first` on, `step` apart.
std::vector<int> every(int first, int count, int step);

// The groups of a mesh of all.size() ranks. num_heads is a multiple of mesh.ulysses.
SequenceRanks sequence_ranks(const ProcessGroup& all, const SequenceMesh& mesh, int64_t num_heads);

// Ranks of Ulysses in full attention, the rest being a ring: as many as the heads can be divided among; with one
// owner as the mesh says.
int full_ulysses(const SequenceMesh& mesh, int64_t num_heads);

// Which tokens the ranks of an attention hold.
struct AttentionShards {
  AttentionRanks ranks;
  std::vector<int64_t> tokens;  // of each Ulysses rank outside attention
  std::vector<std::vector<int64_t>>
      segments;  // of each ring rank in attention: lengths, maybe zero
};

}  // namespace ospnext
