#include "train/training_ranks.h"

#include <iostream>

#include "core/error.h"

namespace ospnext {
namespace {

int checked_shard_group(int64_t wish, int size) {
  if (wish < 0 || wish > size || (wish > 0 && size % wish != 0)) {
    throw InputError("`shard_group`: found " + std::to_string(wish) + " for " +
                     std::to_string(size) + " process(es), expected 0 or a number that divides " +
                     std::to_string(size));
  }
  return static_cast<int>(std::max<int64_t>(wish, 1));
}

}  // namespace

WeightRanks TrainingRanks::weights(at::ScalarType dtype) const {
  return {.group = shards, .meet = [world = work.world] { world->meet(); }, .linears = dtype};
}

WorkRanks TrainingRanks::sampling() const {
  WorkRanks ranks = work;
  ranks.weights = shards;
  return ranks;
}

TrainingRanks training_ranks(std::shared_ptr<World> world, const TrainingMeshFields& wishes,
                             const TransformerConfig& transformer, int64_t batch) {
  const ProcessGroup& all = world->all();
  const int size = all.size(), rank = all.rank();
  const MeshFields fields{.data_parallel = wishes.data_parallel,
                          .cfg_parallel = 1,
                          .ssp = wishes.ssp,
                          .ulysses = wishes.ulysses,
                          .ring = wishes.ring};
  const Mesh mesh = choose_mesh(size, fields, mesh_subject(transformer, batch, false));
  if (batch % mesh.data != 0) {
    throw InputError("`data_parallel`: found " + std::to_string(mesh.data) + " parts of " +
                     std::to_string(batch) + " clip(s), expected a number that divides them");
  }
  const int shard = checked_shard_group(wishes.shard_group, size);
  TrainingRanks ranks;
  if (shard > 1) {
    ranks.shards = all.subgroup(every(rank / shard * shard, shard, 1)).twin("weights");
  }
  ranks.replicas = all.subgroup(every(rank % shard, size / shard, shard));
  if (size > 1 && rank == 0) {
    std::cerr << size << " processes: " << mesh.text()
              << (shard > 1 ? ", weights in " + std::to_string(shard) + " shards" : "")
              << std::endl;
  }
  ranks.work = work_ranks(std::move(world), mesh, transformer.num_heads, /*shard_weights=*/false);
  return ranks;
}

}  // namespace ospnext
