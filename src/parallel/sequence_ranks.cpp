#include "parallel/sequence_ranks.h"

#include <numeric>

namespace ospnext {
namespace {

// The groups of this rank when the ranks from `first` on form a grid [ring, ulysses], row-major.
// A Ulysses group is a row of the grid, a ring is a column.
AttentionRanks attention_ranks(const ProcessGroup& all, int first, int ulysses, int ring) {
  const int place = all.rank() - first;
  return {all.subgroup(every(all.rank() - place % ulysses, ulysses, 1)),
          all.subgroup(every(first + place % ulysses, ring, ulysses))};
}

}  // namespace

std::vector<int> every(int first, int count, int step) {
  std::vector<int> ranks;
  for (int i = 0; i < count; ++i) {
    ranks.push_back(first + i * step);
  }
  return ranks;
}

int full_ulysses(const SequenceMesh& mesh, int64_t num_heads) {
  return mesh.ssp == 1 ? mesh.ulysses : static_cast<int>(std::gcd<int64_t>(mesh.size(), num_heads));
}

SequenceRanks sequence_ranks(const ProcessGroup& all, const SequenceMesh& mesh, int64_t num_heads) {
  TORCH_CHECK(all.size() == mesh.size() && num_heads % mesh.ulysses == 0,
              "sequence ranks: ", mesh.ssp, " x ", mesh.ulysses, " x ", mesh.ring, " of ",
              all.size(), " with ", num_heads, " heads");
  const int owner = all.rank() / mesh.sharers();
  const int ulysses = full_ulysses(mesh, num_heads);
  return {all, mesh, attention_ranks(all, owner * mesh.sharers(), mesh.ulysses, mesh.ring),
          attention_ranks(all, 0, ulysses, all.size() / ulysses)};
}

}  // namespace ospnext
