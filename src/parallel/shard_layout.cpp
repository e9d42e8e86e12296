#include "parallel/shard_layout.h"

#include <algorithm>
#include <limits>

namespace ospnext {
namespace {

constexpr int64_t kAlignment = 256;  // bytes; kernels load weights with vector instructions

int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t element_bytes(const ShardLayout::Piece& piece) {
  return static_cast<int64_t>(c10::elementSize(piece.dtype));
}

}  // namespace

at::Tensor nothing(at::IntArrayRef shape, at::ScalarType dtype, at::Device device) {
  const auto options = at::TensorOptions().device(device);
  return at::full({}, std::numeric_limits<float>::quiet_NaN(), options.dtype(at::kFloat))
      .to(dtype)
      .expand(shape);
}

ParameterTypes types_of(const torch::nn::Module& block) {
  ParameterTypes types;
  for (const auto& item : block.named_parameters()) {
    types.emplace(item.key(), item.value().scalar_type());
  }
  return types;
}

ShardLayout::ShardLayout(const torch::nn::Module& block, const ParameterTypes& types, int ranks) {
  int64_t end = 0;
  for (const auto& item : block.named_parameters()) {
    const at::Tensor& x = item.value();
    const at::ScalarType dtype = types.at(item.key());
    pieces_.push_back({item.key(), x.sizes().vec(), dtype, end,
                       x.numel() * static_cast<int64_t>(c10::elementSize(dtype))});
    end = aligned(end + pieces_.back().bytes);
  }
  part_bytes_ = aligned((end + ranks - 1) / ranks);
}

ShardLayout::Range ShardLayout::range(const Piece& piece, int rank) const {
  const int64_t own = part_bytes_ * rank, end = own + part_bytes_;
  const int64_t begin = std::clamp(piece.begin, own, end);
  const int64_t stop = std::clamp(piece.begin + piece.bytes, own, end);
  return {.first = std::clamp<int64_t>(begin - piece.begin, 0, piece.bytes) / element_bytes(piece),
          .count = (stop - begin) / element_bytes(piece),
          .begin = begin - own};
}

at::Tensor ShardLayout::elements(const Piece& piece, int rank, const at::Tensor& part) const {
  const Range own = range(piece, rank);
  return part.narrow(-1, own.begin, own.count * element_bytes(piece))
      .view(piece.dtype);  // [..., count]
}

std::vector<at::Tensor> ShardLayout::parameters(const at::Tensor& bytes) const {
  std::vector<at::Tensor> views;
  for (const Piece& piece : pieces_) {
    views.push_back(bytes.narrow(0, piece.begin, piece.bytes)
                        .view(piece.dtype)
                        .view(piece.shape));  // [piece.shape]
  }
  return views;
}

void ShardLayout::check(const torch::nn::Module& block) const {
  const auto parameters = block.named_parameters();
  TORCH_CHECK(parameters.size() == pieces_.size(), "weights: blocks differ");
  for (const Piece& piece : pieces_) {
    const at::Tensor& x = parameters[piece.name];
    TORCH_CHECK(x.sizes() == piece.shape, "weights: blocks differ in ", piece.name);
  }
}

}  // namespace ospnext
