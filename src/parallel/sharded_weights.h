// Weights sharded among ranks: each rank keeps a part of every block, and all-gathers the whole
// weights of a block while it is used.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "parallel/process_group.h"

namespace ospnext {

// The part of one parameter that this rank keeps: the elements first to first + kept.numel() - 1 of
// the flattened parameter, maybe none.
struct WeightShard {
  std::vector<int64_t> shape;  // of the whole parameter
  int64_t first;
  at::Tensor kept;  // [n], in the parameter's dtype

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

// The sharded parameters of blocks. All blocks have parameters of equal names, shapes and dtypes,
// and are used in turn: 0, 1, ..., last, 0, 1, ...
//
// The bytes of a block's parameters, concatenated, are cut into equal parts, one for each rank.
// Before a block is used, the collective "weights" all-gathers its parts into one of three buffers,
// which the blocks take in turn. It is prefetched: it starts two blocks ahead.
class ShardedWeights {
 public:
  ShardedWeights() = default;  // nothing is sharded: every rank has all weights

  // Called by all ranks. Copies this rank's part of the current values of the blocks and frees
  // their memory. With one rank it does nothing. Give `ranks` connections of its own
  // (ProcessGroup::twin()): other collectives on it would wait for the all-gathers.
  ShardedWeights(const ProcessGroup& ranks, std::vector<std::shared_ptr<torch::nn::Module>> blocks);

  // All-gathers the weights of block i. They stay valid until ready() is called for another block;
  // at all other times the parameters are NaN. All ranks call it for the blocks in turn.
  void ready(size_t i);

  // The shards by block and by the parameter's name in its block. They may be written until ready()
  // is called for the first time. Empty with one rank.
  const std::vector<std::map<std::string, WeightShard>>& shards() const { return shards_; }

 private:
  static constexpr size_t kAhead = 2;  // blocks to prefetch

  struct Piece {  // where a parameter lies in the bytes of a block
    std::string name;
    std::vector<int64_t> shape;
    at::ScalarType dtype;
    int64_t begin, bytes;
  };
  struct Buffer {
    at::Tensor bytes;               // [ranks · bytes of a part] uint8
    std::vector<at::Tensor> views;  // the parameters in `bytes`, in the order of pieces_
    Pending gathering;
  };
  int64_t lay_out(const torch::nn::Module& block);
  std::map<std::string, WeightShard> shards_of(const torch::nn::Module& block,
                                               const at::Tensor& part) const;
  void start(size_t use);
  void point(size_t block, const std::vector<at::Tensor>& values);

  ProcessGroup ranks_;
  std::vector<std::shared_ptr<torch::nn::Module>> blocks_;
  std::vector<Piece> pieces_;
  std::vector<at::Tensor> parts_;  // this rank's part of each block, [bytes of a part] uint8
  std::vector<std::map<std::string, WeightShard>> shards_;
  std::vector<at::Tensor> nothing_;  // the parameters (NaN) of a block that is not gathered
  std::array<Buffer, kAhead + 1> buffers_;
  size_t started_ = 0, used_ = 0;  // gathers started and blocks used since construction
};

}  // namespace ospnext
