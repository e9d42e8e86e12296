// Weights divided among ranks: each keeps a part of every block, and a block is whole only while it is used.
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

// What one rank keeps of a parameter: elements [first, first + kept.numel()) of it, maybe none.
struct WeightShard {
  std::vector<int64_t> shape;  // of the whole parameter
  int64_t first;
  at::Tensor kept;  // [n], of the parameter's dtype

  // The rows of the parameter (the first and the last maybe only in part) that those elements lie in.
  int64_t first_row() const { return first / row_size(); }
  int64_t num_rows() const;
  // Keeps what is its own of rows first_row, first_row + 1, ... -> the elements that were written.
  at::Tensor write(int64_t first_row, const at::Tensor& rows) const;

 private:
  int64_t row_size() const;  // elements; 1 for an empty row
};

// The parameters of a module become numbers without memory, NaN, of the same shapes and dtypes.
void drop_memory(torch::nn::Module& module);

// The parameters of blocks, modules of equal parameters that are used one after the other, again and again.
//
// The bytes of a block's parameters, one after the other, are cut into as many equal parts as there are ranks. A block
// that is to be used is gathered from them: the collective "weights", started two blocks ahead, into one of three
// buffers that the blocks use in turn.
class ShardedWeights {
 public:
  ShardedWeights() = default;  // every rank has everything

  // Called by all ranks. Keeps of what the blocks hold this rank's part, and drops the memory of the rest. `ranks`
  // should have no other collectives, which would have to wait for the gathering.
  ShardedWeights(const ProcessGroup& ranks, std::vector<std::shared_ptr<torch::nn::Module>> blocks);

  // Makes block i whole, until ready() is called for another. All ranks call it for the blocks in turn: 0, 1, ..., 0, ...
  void ready(size_t i);

  // By block and the parameter's name in it. They may be written to until ready() is called for the first time.
  const std::vector<std::map<std::string, WeightShard>>& shards() const { return shards_; }

 private:
  static constexpr size_t kAhead = 2;

  struct Piece {  // a parameter in the bytes of a block
    std::string name;
    std::vector<int64_t> shape;
    at::ScalarType dtype;
    int64_t begin, bytes;
  };
  struct Buffer {
    at::Tensor bytes;               // [ranks * part]
    std::vector<at::Tensor> views;  // the parameters, in the order of pieces_
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
  std::vector<at::Tensor> parts_;  // [bytes] of each block
  std::vector<std::map<std::string, WeightShard>> shards_;
  std::vector<at::Tensor> nothing_;  // what parameters are while their block is not whole
  std::array<Buffer, kAhead + 1> buffers_;
  size_t started_ = 0, used_ = 0;  // blocks since the beginning, the rounds on end
};

}  // namespace ospnext
