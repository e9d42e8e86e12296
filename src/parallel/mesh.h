// How the processes of a run divide its work: videos x guidance passes x tokens of one video.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/sequence_ranks.h"

namespace ospnext {

// A process has rank (video·cfg + pass)·sequence.size() + sequence rank.
struct Mesh {
  int data = 1;  // videos made at the same time
  int cfg = 1;   // 2: one half runs the pass with the prompt, the other half the one without
  SequenceMesh sequence;

  int size() const { return data * cfg * sequence.size(); }
  // "data 1 x CFG 2 x SSP 4 x Ulysses 1 x ring 1"
  std::string text() const;
  bool operator==(const Mesh&) const = default;
};

// The work that a mesh divides.
struct MeshSubject {
  int64_t videos = 1;
  bool two_passes = true;  // guidance runs two passes per step, not one batched pass
  int64_t num_heads = 1;
  int64_t segments = 1;  // of a sparse layout, P²; 1 for a dense model
};

// The flags of the ranks that share a video's tokens, for generation and for training.
template <class Visitor>
void visit_sequence_fields(Visitor&& field, int64_t& ssp, int64_t& ulysses, int64_t& ring) {
  field("ssp", ssp,
        "number of processes that divide the segments of the sparse layouts, at most P*P; "
        "0: automatic");
  field("ulysses", ulysses, "number of processes that divide the attention heads; 0: automatic");
  field("ring", ring, "number of processes that pass keys and values around a ring; 0: automatic");
}

// The user's wishes: the sides of the mesh, 0 for any value that fits, and whether its processes
// shard the weights.
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
          "number of videos that groups of processes make at the same time; 0: automatic");
    field("cfg_parallel", cfg_parallel,
          "2: half of the processes run the prompt, half the negative prompt; 1: all run both; "
          "0: automatic");
    visit_sequence_fields(field, ssp, ulysses, ring);
    field("shard_weights", shard_weights,
          "each process stores a part of the weights of the transformer's blocks; they are "
          "all-gathered block by block, ahead of use");
  }
};

// All meshes of `ranks` processes, sorted by preference: most videos at a time first, then both
// passes at a time, then most owners, then most Ulysses ranks; the ring gets the remaining ranks.
// The number of owners divides the number of segments, that of Ulysses ranks the number of heads.
std::vector<Mesh> possible_meshes(int ranks, const MeshSubject& subject);

// The most preferred mesh of `ranks` processes, in the order of possible_meshes(), that agrees with
// the flags. `seconds`, if given, predicts the time of a step. Then, among the meshes with the most
// videos at a time, the first one is chosen that is at most 2 % slower than the fastest.
// Throws an InputError that names the nearest meshes when no mesh agrees with the flags.
Mesh choose_mesh(int ranks, const MeshFields& flags, const MeshSubject& subject,
                 const std::function<double(const Mesh&)>& seconds = {});

}  // namespace ospnext
