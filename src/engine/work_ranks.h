// The processes that make videos together, and what this one does among them.
#pragma once

#include <memory>

#include "core/torch/torch.h"
#include "models/transformer_config.h"
#include "parallel/mesh.h"
#include "parallel/world.h"

namespace ospnext {

struct WorkRanks {
  std::shared_ptr<World> world = std::make_shared<World>();
  Mesh mesh;
  int video = 0;           // which of those made at the same time is this process's
  ProcessGroup videos;     // processes that do the same for each of them
  ProcessGroup passes;     // processes with the same tokens of a video: with the prompt and without
  SequenceRanks sequence;  // processes that share the tokens of one pass
  ProcessGroup weights;    // processes that keep a part each of the blocks' weights; alone: all

  // Whether this process encodes the texts and hands the videos on.
  bool leads() const { return world->all().rank() == 0; }
};

// What a mesh is for that makes `videos` of a model.
MeshSubject mesh_subject(const TransformerConfig& transformer, int64_t videos, bool two_passes);

// The groups of a mesh of all the world's ranks, among which the weights may be divided; called by all of them. By default
// a process is alone.
WorkRanks work_ranks(std::shared_ptr<World> world, const Mesh& mesh, int64_t num_heads,
                     bool shard_weights);

// Of several processes the rank's GPU where the device says none: by turns. What the ranks exchange goes between GPUs
// over NCCL when each has one of its own, which `transport` "nccl" asks for, "gloo" forbids and "auto" finds out.
at::Device device_of_rank(at::Device device, const ProcessPlace& place);
Transport transport_of(const std::string& transport, at::Device device, const ProcessPlace& place);

// Tensors of rank 0 to all ranks, of any shapes; those of the others are ignored. -> on `device`
std::vector<at::Tensor> share(const std::vector<at::Tensor>& tensors, const ProcessGroup& all,
                              at::Device device);

}  // namespace ospnext
