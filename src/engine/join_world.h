// Joins the processes of a command: the flags for it, and the first steps.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/generation_config.h"
#include "engine/work_ranks.h"
#include "packages/model_source.h"
#include "parallel/mesh.h"

namespace ospnext {

struct WorldFields {
  std::string transport = "auto";
  int64_t patience = 50;  // seconds

  template <class Visitor>
  void visit(Visitor&& field) {
    field("transport", transport,
          "library for exchanges between processes: nccl, gloo; auto: nccl if each process has its "
          "own GPU, otherwise gloo; if named for a single process, it exchanges with itself, as a "
          "test of the library");
    field("patience", patience,
          "seconds that others wait for a process before they report it as hanging");
  }

  // Throws InputError with the flag, the value and the rule.
  void check() const;
};

// Connects all processes of the run and checks that they have the same version and the same
// `configuration`. `device`: the device that this process works on. Throws as World() does.
std::shared_ptr<World> join_world(const ProcessPlace& place, const WorldFields& flags,
                                  at::Device device, const nlohmann::json& configuration,
                                  const CancellationToken& cancel);

// Divides the work of `videos` videos among the processes. Without flags, it chooses the mesh that
// is predicted to be the fastest on H200s. With several processes, the leader prints the mesh on
// standard error. Throws InputError for an impossible mesh.
WorkRanks divide_work(std::shared_ptr<World> world, const MeshFields& flags,
                      const ModelSource& source, const ComputeOptions& compute,
                      const GenerationConfig& generation, size_t videos);

// The same for each number of videos from 1 to `most`: entry n - 1 divides n videos. Equal meshes
// share their groups, and all entries the weights. If `flags` fix the number of videos at a time,
// there is one entry, for any number.
std::vector<WorkRanks> divide_work_by_videos(const std::shared_ptr<World>& world,
                                             const MeshFields& flags, const ModelSource& source,
                                             const ComputeOptions& compute,
                                             const GenerationConfig& generation, size_t most);

}  // namespace ospnext
