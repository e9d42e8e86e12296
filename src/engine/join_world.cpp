#include "engine/join_world.h"

#include <iostream>

#include "core/number_check.h"
#include "core/version.h"
#include "engine/plan.h"

namespace ospnext {
namespace {

Mesh mesh_for(const World& world, const MeshFields& flags, const ModelSource& source,
              const ComputeOptions& compute, const GenerationConfig& generation, size_t videos) {
  PlanSubject subject;
  subject.transformer = source.transformer_config();
  subject.grid = token_grid(latent_size(generation, source.vae_config()));
  subject.two_passes = generation.passes() == 2;
  subject.value_bytes = static_cast<int64_t>(at::elementSize(compute.dtype));
  subject.costs = h200_block_costs(subject.transformer, compute.on_fp8_tensor_cores());
  const MeshSubject meshes =
      mesh_subject(subject.transformer, static_cast<int64_t>(videos), subject.two_passes);
  return fastest_mesh(world.all().size(), flags, meshes, subject);
}

// By the leader, if there are several processes. `when`: "" or " for 2 videos".
void print_mesh(const World& world, const Mesh& mesh, const std::string& when) {
  if (mesh.size() > 1 && world.all().rank() == 0) {
    std::cerr << mesh.size() << " processes" << when << ": " << mesh.text() << std::endl;
  }
}

}  // namespace

void WorldFields::check() const {
  check_range<int64_t>("`patience`", patience, 1, 86400);
}

std::shared_ptr<World> join_world(const ProcessPlace& place, const WorldFields& flags,
                                  at::Device device, const nlohmann::json& configuration,
                                  const CancellationToken& cancel) {
  WorldOptions options;
  options.transport = transport_of(flags.transport, device, place);
  options.timeout = std::chrono::seconds(flags.patience);
  options.cancel = &cancel;
  options.engine_for_one = flags.transport != "auto";
  options.device = device;
  const size_t hash = std::hash<std::string>()(configuration.dump());
  options.fingerprint = std::string("ospnext ") + kVersion + ", " +
                        (options.transport == Transport::kNccl ? "nccl" : "gloo") +
                        ", configuration " + std::to_string(hash);
  return std::make_shared<World>(place, options);
}

WorkRanks divide_work(std::shared_ptr<World> world, const MeshFields& flags,
                      const ModelSource& source, const ComputeOptions& compute,
                      const GenerationConfig& generation, size_t videos) {
  const Mesh mesh = mesh_for(*world, flags, source, compute, generation, videos);
  print_mesh(*world, mesh, "");
  return work_ranks(std::move(world), mesh, source.transformer_config().num_heads,
                    flags.shard_weights);
}

std::vector<WorkRanks> divide_work_by_videos(const std::shared_ptr<World>& world,
                                             const MeshFields& flags, const ModelSource& source,
                                             const ComputeOptions& compute,
                                             const GenerationConfig& generation, size_t most) {
  if (flags.data_parallel > 0) {
    return {divide_work(world, flags, source, compute, generation, most)};
  }
  std::vector<WorkRanks> by_videos = {divide_work(world, flags, source, compute, generation, 1)};
  while (by_videos.size() < most) {
    const size_t videos = by_videos.size() + 1;
    const Mesh mesh = mesh_for(*world, flags, source, compute, generation, videos);
    WorkRanks ranks = by_videos.back();
    if (mesh != ranks.mesh) {
      print_mesh(*world, mesh, " for " + std::to_string(videos) + " videos");
      ranks = work_ranks(world, mesh, source.transformer_config().num_heads, false);
      ranks.weights = by_videos.front().weights;
    }
    by_videos.push_back(std::move(ranks));
  }
  return by_videos;
}

}  // namespace ospnext
