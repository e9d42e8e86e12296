// How the processes of a command come together: the flags that say so, and the first steps.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

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
          "how several processes exchange tensors: nccl, gloo; auto: NCCL where each has a GPU; "
          "named for one process, it exchanges with itself, which tries the library");
    field("patience", patience,
          "seconds after which a process that others wait for is taken for hanging");
  }

  // Throws InputError naming flag, value and rule.
  void check() const;
};

// All processes of the run, which work on `device` here, once they are there and of one mind: of this version and
// with the same `configuration`. Throws as World() does.
std::shared_ptr<World> join_world(const ProcessPlace& place, const WorldFields& flags,
                                  at::Device device, const nlohmann::json& configuration,
                                  const CancellationToken& cancel);

// Who does what, for `videos` videos, in the mesh that is predicted to be the fastest on H200s; the leader of several
// processes says it on standard error. Throws InputError for a mesh that cannot be.
WorkRanks divide_work(std::shared_ptr<World> world, const MeshFields& flags,
                      const ModelSource& source, const ComputeOptions& compute,
                      const GenerationConfig& generation, size_t videos);

}  // namespace ospnext
