// How the processes of a run divide its work: videos x guidance x the tokens of one video.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/sequence_ranks.h"

namespace ospnext {

// Rank ((video·cfg + pass)·sequence.size() + sequence rank).
struct Mesh {
  int data = 1;  // videos made at the same time
  int cfg = 1;   // 2: one half makes the pass with the prompt, the other the one without
  SequenceMesh sequence;

  int size() const { return data * cfg * sequence.size(); }
  // "data 1 x CFG 2 x SSP 4 x Ulysses 1 x ring 1"
  std::string text() const;
  bool operator==(const Mesh&) const = default;
};

// What a mesh is for.
struct MeshSubject {
  int64_t videos = 1;
  bool two_passes = true;  // guidance, not batched
  int64_t num_heads = 1;
  int64_t segments = 1;  // of a sparse layout, P²; 1 for a dense model
};

// The sides of a mesh as a user asks for them, 0: whatever fits; and whether its processes divide the weights.
struct MeshFields {
  int64_t data_parallel = 0;
  int64_t cfg_parallel = 0;
  int64_t ssp = 0;
  int64_t ulysses = 0;
  int64_t ring = 0;
  bool shard_weights = false;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("data_parallel", data_parallel,
          "of several processes: videos made at the same time; 0: as many as fit");
    field("cfg_parallel", cfg_parallel,
          "2: prompt and negative prompt on two halves of the processes; 0: where it fits");
    field("ssp", ssp, "processes that own segments of the sparse layouts, up to P*P; 0: as fits");
    field("ulysses", ulysses, "processes that share the heads of an owner's attention; 0: as fits");
    field("ring", ring,
          "processes among which keys and values of an owner's attention travel; 0: as fits");
    field("shard_weights", shard_weights,
          "of several processes: each keeps a part of the transformer's blocks, which are gathered "
          "one by one, ahead of their use");
  }
};

// All meshes of `ranks` processes, in the order of preference that choose_mesh() has.
std::vector<Mesh> possible_meshes(int ranks, const MeshSubject& subject);

// The mesh of `ranks` processes that the flags leave open in the fewest things: most videos at a time first, then
// both passes, then owners (at most one a segment, and a divisor of their number), then Ulysses (a divisor of the
// heads), and a ring for the rest. `seconds` of a step, where given, decide among those with the most videos: the first in that
// order that is no more than 2 % slower than the fastest. Throws InputError naming the nearest meshes when there is none.
Mesh choose_mesh(int ranks, const MeshFields& flags, const MeshSubject& subject,
                 const std::function<double(const Mesh&)>& seconds = {});

}  // namespace ospnext
