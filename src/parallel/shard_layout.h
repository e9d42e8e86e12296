// How the parameters of a block are divided among ranks.
//
// The bytes of the parameters, concatenated, are cut into equal parts, one for each rank.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// One NaN on a device, expanded to a shape. It takes no memory.
at::Tensor nothing(at::IntArrayRef shape, at::ScalarType dtype, at::Device device);

// Dtypes of parameters by name.
using ParameterTypes = std::map<std::string, at::ScalarType>;
// Those of a block's parameters.
ParameterTypes types_of(const torch::nn::Module& block);

class ShardLayout {
 public:
  ShardLayout() = default;
  // The layout of blocks with parameters like those of `block`, stored in the dtypes `types`.
  ShardLayout(const torch::nn::Module& block, const ParameterTypes& types, int ranks);

  // A parameter, and where it lies in the bytes of a block.
  struct Piece {
    std::string name;
    std::vector<int64_t> shape;
    at::ScalarType dtype;
    int64_t begin, bytes;
  };
  const std::vector<Piece>& pieces() const { return pieces_; }
  // The bytes of the part of one rank.
  int64_t part_bytes() const { return part_bytes_; }

  // The elements of a piece in the part of a rank: `first` counts elements of the flattened
  // parameter, `begin` bytes of the part.
  struct Range {
    int64_t first, count, begin;
  };
  Range range(const Piece& piece, int rank) const;
  // Those elements in `part`, the part of `rank`: [..., part_bytes()] uint8 -> [..., count] of the
  // piece's dtype, a view.
  at::Tensor elements(const Piece& piece, int rank, const at::Tensor& part) const;
  // The parameters in `bytes`, all parts one after the other: views, in the order of pieces().
  std::vector<at::Tensor> parameters(const at::Tensor& bytes) const;

  // Fails a TORCH_CHECK if the parameters of `block` have other names or shapes.
  void check(const torch::nn::Module& block) const;

 private:
  std::vector<Piece> pieces_;
  int64_t part_bytes_ = 0;
};

}  // namespace ospnext
