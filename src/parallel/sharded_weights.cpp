#include "parallel/sharded_weights.h"

#include <algorithm>
#include <limits>

namespace ospnext {
namespace {

constexpr int64_t kAlignment = 256;  // bytes; kernels load weights with vector instructions

int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// One NaN, expanded to the shape, dtype and device of x.
at::Tensor nothing_like(const at::Tensor& x) {
  const auto options = at::TensorOptions().device(x.device());
  return at::full({}, std::numeric_limits<float>::quiet_NaN(), options.dtype(at::kFloat))
      .to(x.scalar_type())
      .expand(x.sizes());
}

}  // namespace

int64_t WeightShard::row_size() const {
  return shape.empty()
             ? 1
             : std::max<int64_t>(1, c10::multiply_integers(shape.begin() + 1, shape.end()));
}

int64_t WeightShard::num_rows() const {
  const int64_t end = first + kept.numel();
  return kept.numel() == 0 ? 0 : (end + row_size() - 1) / row_size() - first_row();
}

at::Tensor WeightShard::write(int64_t first_row, const at::Tensor& rows) const {
  const at::Tensor values = rows.reshape({-1});   // [rows · row_size()]
  const int64_t offset = first_row * row_size();  // of values[0] in the flattened parameter
  const int64_t begin = std::max(first, offset);
  const int64_t count = std::min(first + kept.numel(), offset + values.numel()) - begin;
  if (count <= 0) {
    return kept.narrow(0, 0, 0);
  }
  const at::Tensor into = kept.narrow(0, begin - first, count);
  into.copy_(values.narrow(0, begin - offset, count));
  return into;
}

void drop_memory(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (at::Tensor& parameter : module.parameters()) {
    parameter.set_data(nothing_like(parameter));
  }
}

ShardedWeights::ShardedWeights(const ProcessGroup& ranks,
                               std::vector<std::shared_ptr<torch::nn::Module>> blocks)
    : ranks_(ranks), blocks_(std::move(blocks)) {
  if (ranks.alone()) {
    return;
  }
  const torch::NoGradGuard no_grad;
  const int64_t part = aligned((lay_out(*blocks_.at(0)) + ranks.size() - 1) / ranks.size());
  const auto bytes = at::TensorOptions().device(nothing_.at(0).device()).dtype(at::kByte);
  for (const auto& block : blocks_) {
    parts_.push_back(at::zeros({part}, bytes));
    shards_.push_back(shards_of(*block, parts_.back()));
    for (const auto& item : block->named_parameters()) {
      shards_.back().at(item.key()).write(0, item.value());
    }
    drop_memory(*block);
  }
  for (Buffer& buffer : buffers_) {
    buffer.bytes = at::empty({part * ranks.size()}, bytes);
    for (const Piece& piece : pieces_) {
      const at::Tensor flat = buffer.bytes.narrow(0, piece.begin, piece.bytes);
      buffer.views.push_back(flat.view(piece.dtype).view(piece.shape));  // [piece.shape]
    }
  }
}

// Assigns each parameter of a block its range of bytes. Returns the end of the last one, aligned.
int64_t ShardedWeights::lay_out(const torch::nn::Module& block) {
  int64_t end = 0;
  for (const auto& item : block.named_parameters()) {
    const at::Tensor& x = item.value();
    pieces_.push_back({item.key(), x.sizes().vec(), x.scalar_type(), end,
                       static_cast<int64_t>(x.numel() * x.element_size())});
    end = aligned(end + pieces_.back().bytes);
    nothing_.push_back(nothing_like(x));
  }
  return end;
}

// The shards of a block's parameters: views of `part`, this rank's bytes of the block.
std::map<std::string, WeightShard> ShardedWeights::shards_of(const torch::nn::Module& block,
                                                             const at::Tensor& part) const {
  const int64_t own = part.numel() * ranks_.rank(), end = own + part.numel();
  const auto parameters = block.named_parameters();
  TORCH_CHECK(parameters.size() == pieces_.size(), "weights: blocks differ");
  std::map<std::string, WeightShard> shards;
  for (const Piece& piece : pieces_) {
    const at::Tensor& x = parameters[piece.name];
    TORCH_CHECK(x.sizes() == piece.shape && x.scalar_type() == piece.dtype,
                "weights: blocks differ in ", piece.name);
    const int64_t begin = std::clamp(piece.begin, own, end);
    const int64_t stop = std::clamp(piece.begin + piece.bytes, own, end);
    const int64_t first =
        std::max<int64_t>(0, begin - piece.begin) / static_cast<int64_t>(x.element_size());
    shards.emplace(piece.name, WeightShard{piece.shape, first,
                                           part.narrow(0, begin - own, stop - begin)
                                               .view(piece.dtype)});  // [elements in the part]
  }
  return shards;
}

void ShardedWeights::ready(size_t i) {
  if (ranks_.alone()) {
    return;
  }
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(i == used_ % blocks_.size(), "weights: block ", i, " is used, expected block ",
              used_ % blocks_.size());
  while (started_ <= used_ + kAhead) {
    start(started_++);
  }
  Buffer& buffer = buffers_[used_ % buffers_.size()];
  buffer.gathering.wait();
  point(i, buffer.views);
  ++used_;
}

// Starts the all-gather of the block that is used as number `use`, counted from 0. Its buffer held
// the block of use - 3, which is finished: the parameters of that block become NaN.
void ShardedWeights::start(size_t use) {
  if (use >= buffers_.size()) {
    point((use - buffers_.size()) % blocks_.size(), nothing_);
  }
  Buffer& buffer = buffers_[use % buffers_.size()];
  buffer.gathering =
      ranks_.start_gather_into(buffer.bytes, parts_[use % blocks_.size()], "weights");
}

void ShardedWeights::point(size_t block, const std::vector<at::Tensor>& values) {
  std::vector<at::Tensor> parameters = blocks_[block]->parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].set_data(values[i]);
  }
}

}  // namespace ospnext
