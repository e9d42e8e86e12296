// Weights of blocks that are there only while they are used. Each rank keeps a part of every block,
// on its device or in host memory, and has the whole weights of a block for as long as it holds a
// lease of it. In training, each rank also sums its part of the gradients of all ranks.
// Sources: Rajbhandari et al., ZeRO (stage 3), arXiv 1910.02054; Ren et al., ZeRO-Offload, arXiv
// 2101.06840.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "core/torch/transfer_stream.h"
#include "parallel/process_group.h"
#include "parallel/shard_layout.h"

namespace ospnext {

// The part of one parameter that this rank keeps: the elements first to first + kept.numel() - 1 of
// the flattened parameter, maybe none.
struct WeightShard {
  std::vector<int64_t> shape;  // of the whole parameter
  int64_t first;
  // [n], in the parameter's dtype, or in float32 for training; on the device or in host memory
  at::Tensor kept;
  // [n] float32, where `kept` is: the sum of the ranks' gradients of these elements; undefined
  // where nothing is trained
  at::Tensor gradient = {};

  // The rows of the parameter that contain these elements. The first and the last row may be kept
  // only in part.
  int64_t first_row() const { return first / row_size(); }
  int64_t num_rows() const;
  // Copies the elements of this shard out of `rows`, the rows first_row, first_row + 1, ... of the
  // whole parameter. Returns the part of `kept` that was written.
  at::Tensor write(int64_t first_row, const at::Tensor& rows) const;

 private:
  int64_t row_size() const;  // in elements; 1 for an empty row
};

// Replaces each parameter of the module by one NaN, expanded to the same shape and dtype, which
// takes no memory.
void drop_memory(torch::nn::Module& module);

// Where blocks compute and keep their weights.
struct WeightHome {
  std::optional<at::Device> device = {};  // that computes; nothing: where the parameters are
  bool offload = false;                   // keeps weights and gradients in host memory
};

// The weights of blocks, which have parameters of equal names, shapes and dtypes (ShardLayout).
// With several ranks the collective "weights" all-gathers a block's parts into a buffer on the
// device; parts in host memory are copied to the device before, beside computation. Called by all
// ranks, for the same blocks in the same order.
class ShardedWeights {
 public:
  ShardedWeights() = default;  // all weights are always there

  // Copies this rank's part of the current values of the blocks and frees their memory. With one
  // rank, unless they are offloaded, it does nothing. Give `ranks` connections of its own
  // (ProcessGroup::twin()): other collectives on it would wait for the all-gathers. With
  // `gathered`, for training, each rank keeps its part in float32, and a block's parameters are
  // gathered in these dtypes.
  ShardedWeights(const ProcessGroup& ranks, std::vector<std::shared_ptr<torch::nn::Module>> blocks,
                 const std::optional<ParameterTypes>& gathered = {}, const WeightHome& home = {});

  // The weights of a block are there while any lease of it lives; at all other times the parameters
  // are NaN. The weights outlive their leases.
  class Lease {
   public:
    Lease(ShardedWeights& weights, size_t block) : weights_(&weights), block_(block) {}
    Lease(Lease&& other) noexcept
        : weights_(std::exchange(other.weights_, nullptr)), block_(other.block_) {}
    Lease& operator=(Lease&& other) = delete;
    ~Lease();

   private:
    ShardedWeights* weights_;  // null: moved from
    size_t block_;
  };
  // Starts to get the blocks `ahead` too, which are used next.
  [[nodiscard]] Lease lease(size_t block, const std::vector<size_t>& ahead = {});

  // From now on, shards of parameters that need a gradient have a `gradient` of zeros.
  void begin_training();
  // The parameters of block i, which is leased, get gradients of zeros to accumulate into.
  void begin_gradients(size_t i);
  // Starts to add the gradients of block i to those of the shards, summed over the ranks in their
  // order, in float32 (the all-to-all "gradients"), and takes them from the parameters.
  void add_gradients(size_t i);
  // Waits until all of them are added, and forgets the blocks that were got ahead: their weights
  // are going to change.
  void finish_gradients();
  // Forgets the blocks that were got ahead. Call it when shards have been changed.
  void forget_ahead();

  // The shards by block and by the parameter's name in its block. They may be written until the
  // block is leased, and in training after finish_gradients(). Empty if all weights are always
  // there.
  const std::vector<std::map<std::string, WeightShard>>& shards() const { return shards_; }
  size_t size() const { return shards_.size(); }
  // Whether shards are in host memory; the device that computes with them.
  bool offloaded() const { return offload_; }
  at::Device device() const { return device_; }

 private:
  struct Buffer {
    at::Tensor bytes;  // [ranks · bytes of a part] uint8
    // [bytes of a part] uint8: this rank's part, where it is not kept as it is gathered; with one
    // rank it is `bytes`
    at::Tensor part;
    std::vector<at::Tensor> views;  // the parameters in `bytes`, in the order of the layout
    std::optional<size_t> block;    // whose weights are gathered here; none: the buffer is free
    Pending gathering;              // with several ranks
    Moment filled;                  // from host memory
    Moment free;                    // of work that reads what was in it before
    bool is_whole = false;          // the parameters are views of it
    int leases = 0;
  };
  struct Reduction {
    size_t block;
    Pending parts;  // [ranks · bytes of a part] uint8: this rank's part of each rank's gradients
  };
  void keep_part_of(const torch::nn::Module& block, bool in_float);
  void release(size_t i);
  Buffer& gathered(size_t i);
  Buffer& new_buffer();
  void fill(Buffer& buffer, size_t i);
  at::Tensor part_of(size_t i, const Buffer& buffer) const;
  void wait_for(Buffer& buffer);
  void point(size_t block, const std::vector<at::Tensor>& values);
  void add(const at::Tensor& gradient, const at::Tensor& x) const;
  void finish(Reduction& reduction);
  std::vector<at::Tensor> zeros_like(const std::vector<at::Tensor>& tensors) const;
  at::TensorOptions bytes_here() const;

  ProcessGroup ranks_;
  std::vector<std::shared_ptr<torch::nn::Module>> blocks_;
  at::Device device_ = at::kCPU;
  bool offload_ = false;
  TransferStream copies_;  // from and to host memory; none where nothing is offloaded
  ShardLayout layout_;
  std::vector<at::Tensor> parts_;  // [bytes of a part] uint8 of each block; none in training
  std::vector<std::map<std::string, WeightShard>> shards_;
  std::vector<at::Tensor> nothing_;  // the parameters (NaN) of a block that is not gathered
  std::deque<Buffer> buffers_;
  at::Tensor gradients_;  // [ranks · bytes of a part] uint8: where a block accumulates gradients
  std::deque<Reduction> reductions_;
  bool trains_ = false;  // whether any shard has a gradient
};

}  // namespace ospnext
