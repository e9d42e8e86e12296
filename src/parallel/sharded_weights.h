// Weights sharded among ranks: each rank keeps a part of every block, and all-gathers the whole
// weights of a block while it is used. In training, each rank also sums its part of the gradients
// of all ranks. Source: Rajbhandari et al., ZeRO (stage 3), arXiv 1910.02054.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "parallel/process_group.h"
#include "parallel/shard_layout.h"

namespace ospnext {

// The part of one parameter that this rank keeps: the elements first to first + kept.numel() - 1 of
// the flattened parameter, maybe none.
struct WeightShard {
  std::vector<int64_t> shape;  // of the whole parameter
  int64_t first;
  at::Tensor kept;  // [n], in the parameter's dtype, or in float32 for training
  // [n] float32: the sum of the ranks' gradients of these elements; undefined where nothing is
  // trained
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

// The sharded parameters of blocks, which have parameters of equal names, shapes and dtypes
// (ShardLayout). The collective "weights" all-gathers a block's parts into a buffer. Called by all
// ranks, for the same blocks in the same order.
class ShardedWeights {
 public:
  ShardedWeights() = default;  // nothing is sharded: every rank has all weights

  // Copies this rank's part of the current values of the blocks and frees their memory. With one
  // rank it does nothing. Give `ranks` connections of its own (ProcessGroup::twin()): other
  // collectives on it would wait for the all-gathers. With `gathered`, for training, each rank
  // keeps its part in float32, and a block's parameters are gathered in these dtypes.
  ShardedWeights(const ProcessGroup& ranks, std::vector<std::shared_ptr<torch::nn::Module>> blocks,
                 const std::optional<ParameterTypes>& gathered = {});

  // All-gathers the weights of block i. They stay valid until release(i); at all other times the
  // parameters are NaN. After several calls for one block, as many releases end it. Starts to
  // gather the blocks `ahead` too, which are used next.
  void acquire(size_t i, const std::vector<size_t>& ahead = {});
  void release(size_t i);

  // From now on, shards of parameters that need a gradient have a `gradient` of zeros.
  void begin_training();
  // The parameters of block i, which is acquired, get gradients of zeros to accumulate into.
  void begin_gradients(size_t i);
  // Starts to add the gradients of block i to those of the shards, summed over the ranks in their
  // order, in float32 (the all-to-all "gradients"), and takes them from the parameters.
  void add_gradients(size_t i);
  // Waits until all of them are added.
  void finish_gradients();

  // The shards by block and by the parameter's name in its block. They may be written until the
  // block is acquired, and in training whenever no block is acquired and none is gathered ahead.
  // Empty with one rank.
  const std::vector<std::map<std::string, WeightShard>>& shards() const { return shards_; }
  size_t size() const { return shards_.size(); }

 private:
  struct Buffer {
    at::Tensor bytes;               // [ranks · bytes of a part] uint8
    std::vector<at::Tensor> views;  // the parameters in `bytes`, in the order of the layout
    std::optional<size_t> block;    // whose weights are gathered here; none: the buffer is free
    Pending gathering;
    bool is_whole = false;  // gathered, and the parameters are views of it
    int leases = 0;         // calls of acquire() without release()
  };
  struct Reduction {
    size_t block;
    Pending parts;  // [ranks · bytes of a part] uint8: this rank's part of each rank's gradients
  };
  Buffer& gathered(size_t i);
  at::Tensor part_of(size_t i) const;
  void point(size_t block, const std::vector<at::Tensor>& values);
  void finish(Reduction& reduction);

  ProcessGroup ranks_;
  std::vector<std::shared_ptr<torch::nn::Module>> blocks_;
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
