#include "engine/join_world.h"

#include <iostream>

#include "core/number_check.h"
#include "core/version.h"
#include "engine/plan.h"

namespace ospnext {

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
  PlanSubject subject;
  subject.transformer = source.transformer_config();
  subject.grid = token_grid(latent_size(generation, source.vae_config()));
  subject.two_passes = generation.passes() == 2;
  subject.value_bytes = static_cast<int64_t>(at::elementSize(compute.dtype));
  subject.costs = h200_block_costs(subject.transformer, compute.on_fp8_tensor_cores());
  const MeshSubject meshes =
      mesh_subject(subject.transformer, static_cast<int64_t>(videos), subject.two_passes);
  const Mesh mesh = fastest_mesh(world->all().size(), flags, meshes, subject);
  if (mesh.size() > 1 && world->all().rank() == 0) {
    std::cerr << mesh.size() << " processes: " << mesh.text() << std::endl;
  }
  return work_ranks(std::move(world), mesh, subject.transformer.num_heads, flags.shard_weights);
}

}  // namespace ospnext
