// The processes that make videos together, and the task of this process.
#pragma once

#include <memory>

#include "core/torch/torch.h"
#include "models/transformer_config.h"
#include "parallel/mesh.h"
#include "parallel/world.h"

namespace ospnext {

// The groups that this process belongs to.
struct WorkRanks {
  std::shared_ptr<World> world = std::make_shared<World>();
  Mesh mesh;
  int video = 0;           // which of the videos made at the same time is this process's
  ProcessGroup videos;     // processes with the same task for different videos
  ProcessGroup passes;     // processes with the same tokens: with and without the prompt
  SequenceRanks sequence;  // processes that share the tokens of one pass
  ProcessGroup weights;    // processes that share the blocks' weights; alone: each has all

  // Whether this process encodes the texts and outputs the videos.
  bool leads() const { return world->all().rank() == 0; }
};

// The requirements of a mesh that makes `videos` videos with a model.
MeshSubject mesh_subject(const TransformerConfig& transformer, int64_t videos, bool two_passes);

// Creates the groups of a mesh over all ranks of the world. If `shard_weights`, the ranks divide
// the weights of the blocks. All ranks call it. By default a process works alone.
WorkRanks work_ranks(std::shared_ptr<World> world, const Mesh& mesh, int64_t num_heads,
                     bool shard_weights);

// device_of_rank() returns the GPU of this rank if there are several processes and `device` has no
// index; ranks take the GPUs in turn. transport_of() chooses how ranks exchange data. "nccl"
// requires NCCL, which needs a GPU of its own for each rank; "gloo" forbids NCCL; "auto" uses NCCL
// if each rank has its own GPU.
at::Device device_of_rank(at::Device device, const ProcessPlace& place);
Transport transport_of(const std::string& transport, at::Device device, const ProcessPlace& place);

// Broadcasts the tensors of rank 0, of any shapes, to all ranks; the tensors of other ranks are
// ignored. The results are on `device`.
std::vector<at::Tensor> share(const std::vector<at::Tensor>& tensors, const ProcessGroup& all,
                              at::Device device);

}  // namespace ospnext
