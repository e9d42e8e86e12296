// The processes that train together, and what each of them keeps.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/work_ranks.h"
#include "packages/load_model.h"

namespace ospnext {

// The user's wishes: the sides of the mesh, 0 for any value that fits.
struct TrainingMeshFields {
  int64_t data_parallel = 0;
  int64_t ssp = 0;
  int64_t ulysses = 0;
  int64_t ring = 0;
  int64_t shard_group = 0;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("data_parallel", data_parallel,
          "number of parts of a batch that groups of processes work on; 0: automatic");
    visit_sequence_fields(field, ssp, ulysses, ring);
    field("shard_group", shard_group,
          "so many processes in a row divide the weights, gradients and optimizer state of the "
          "transformer's blocks; 0: each process has all");
  }
};

// The groups of a training. Each group of work.sequence trains on its part of the batch.
struct TrainingRanks {
  WorkRanks work;
  ProcessGroup shards;    // processes that divide the weights of the blocks; alone: each has all
  ProcessGroup replicas;  // processes that keep the same part as this one

  const ProcessGroup& all() const { return work.world->all(); }
  // How load_transformer() shards a transformer that trains with `dtype` products.
  WeightRanks weights(at::ScalarType dtype) const;
  // Those that make videos with the model that is trained.
  WorkRanks sampling() const;
};

// Chooses the mesh of a step of `batch` clips: most parts of the batch first, then most owners of
// segments, then most Ulysses ranks. With several processes, rank 0 prints it on standard error.
// Throws InputError for wishes that do not fit the processes, the batch or the model.
TrainingRanks training_ranks(std::shared_ptr<World> world, const TrainingMeshFields& wishes,
                             const TransformerConfig& transformer, int64_t batch);

}  // namespace ospnext
