#include "parallel/sharded_weights.h"

#include <algorithm>

namespace ospnext {

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
    parameter.set_data(nothing_like(parameter, parameter.scalar_type()));
  }
}

ShardedWeights::ShardedWeights(const ProcessGroup& ranks,
                               std::vector<std::shared_ptr<torch::nn::Module>> blocks,
                               const std::optional<ParameterTypes>& gathered)
    : ranks_(ranks), blocks_(std::move(blocks)) {
  if (ranks.alone()) {
    return;
  }
  const torch::NoGradGuard no_grad;
  const ParameterTypes types = gathered ? *gathered : types_of(*blocks_.at(0));
  layout_ = ShardLayout(*blocks_.at(0), types, ranks.size());
  for (const auto& item : blocks_[0]->named_parameters()) {
    nothing_.push_back(nothing_like(item.value(), types.at(item.key())));
  }
  const at::TensorOptions options(nothing_.at(0).device());
  for (const auto& block : blocks_) {
    layout_.check(*block);
    TORCH_CHECK(gathered || types_of(*block) == types, "weights: blocks differ in their dtypes");
    if (!gathered) {
      parts_.push_back(at::zeros({layout_.part_bytes()}, options.dtype(at::kByte)));
    }
    auto& shards = shards_.emplace_back();
    const auto parameters = block->named_parameters();
    for (const ShardLayout::Piece& piece : layout_.pieces()) {
      const ShardLayout::Range own = layout_.range(piece, ranks.rank());
      const WeightShard shard{piece.shape, own.first,
                              gathered ? at::zeros({own.count}, options.dtype(at::kFloat))
                                       : layout_.elements(piece, ranks.rank(), parts_.back())};
      shard.write(0, parameters[piece.name]);
      shards.emplace(piece.name, shard);
    }
    point(shards_.size() - 1, nothing_);
  }
}

void ShardedWeights::acquire(size_t i, const std::vector<size_t>& ahead) {
  if (ranks_.alone()) {
    return;
  }
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(i < blocks_.size(), "weights: there is no block ", i);
  Buffer& buffer = gathered(i);
  for (const size_t next : ahead) {
    gathered(next);
  }
  ++buffer.leases;
  if (!buffer.is_whole) {
    buffer.gathering.wait();
    buffer.is_whole = true;
    point(i, buffer.views);
  }
}

void ShardedWeights::release(size_t i) {
  for (Buffer& buffer : buffers_) {
    if (buffer.block == i && buffer.leases > 0 && --buffer.leases == 0) {
      point(i, nothing_);
      buffer.block.reset();
      buffer.is_whole = false;
    }
  }
}

// The buffer of block i. Starts to gather the block if it is in none. A free buffer may still be
// read by work that is queued on the GPU; a collective waits for that work.
ShardedWeights::Buffer& ShardedWeights::gathered(size_t i) {
  Buffer* free = nullptr;
  for (Buffer& buffer : buffers_) {
    if (buffer.block == i) {
      return buffer;
    }
    free = buffer.block ? free : &buffer;
  }
  if (free == nullptr) {
    free = &buffers_.emplace_back();
    free->bytes = at::empty({layout_.part_bytes() * ranks_.size()},
                            at::TensorOptions(nothing_[0].device()).dtype(at::kByte));
    free->views = layout_.parameters(free->bytes);
  }
  free->block = i;
  free->gathering = ranks_.start_gather_into(free->bytes, part_of(i), "weights");
  return *free;
}

// This rank's part of block i as it is gathered: [bytes of a part] uint8.
at::Tensor ShardedWeights::part_of(size_t i) const {
  if (!parts_.empty()) {
    return parts_[i];
  }
  const at::Tensor part =
      at::empty({layout_.part_bytes()}, at::TensorOptions(nothing_[0].device()).dtype(at::kByte));
  for (const ShardLayout::Piece& piece : layout_.pieces()) {
    layout_.elements(piece, ranks_.rank(), part).copy_(shards_[i].at(piece.name).kept);
  }
  return part;
}

void ShardedWeights::point(size_t block, const std::vector<at::Tensor>& values) {
  std::vector<at::Tensor> parameters = blocks_[block]->parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].set_data(values[i]);
  }
}

void ShardedWeights::begin_training() {
  for (size_t i = 0; i < shards_.size(); ++i) {
    for (const auto& item : blocks_[i]->named_parameters()) {
      WeightShard& shard = shards_[i].at(item.key());
      if (item.value().requires_grad()) {
        shard.gradient = at::zeros_like(shard.kept, at::kFloat);
        shard.kept.mutable_grad() = shard.gradient;
        trains_ = true;
      }
    }
  }
}

void ShardedWeights::begin_gradients(size_t i) {
  if (!trains_) {
    return;
  }
  if (!gradients_.defined()) {
    gradients_ = at::empty({layout_.part_bytes() * ranks_.size()},
                           at::TensorOptions(nothing_[0].device()).dtype(at::kByte));
  }
  gradients_.zero_();
  const std::vector<at::Tensor> views = layout_.parameters(gradients_);
  std::vector<at::Tensor> parameters = blocks_[i]->parameters();
  for (size_t p = 0; p < parameters.size(); ++p) {
    if (parameters[p].requires_grad()) {
      parameters[p].mutable_grad() = views[p];
    }
  }
}

void ShardedWeights::add_gradients(size_t i) {
  if (!trains_) {
    return;
  }
  const torch::NoGradGuard no_grad;
  for (at::Tensor& parameter : blocks_[i]->parameters()) {
    parameter.mutable_grad().reset();
  }
  const std::vector<int64_t> rows(static_cast<size_t>(ranks_.size()), 1);
  const at::Tensor parts =
      gradients_.view({ranks_.size(), layout_.part_bytes()});  // [ranks, bytes of a part]
  gradients_.reset();  // the exchange reads it while the next block accumulates elsewhere
  reductions_.push_back({i, ranks_.start_all_to_all(parts, rows, rows, "gradients")});
  while (reductions_.size() > 1) {
    finish(reductions_.front());
    reductions_.pop_front();
  }
}

void ShardedWeights::finish_gradients() {
  while (!reductions_.empty()) {
    finish(reductions_.front());
    reductions_.pop_front();
  }
}

void ShardedWeights::finish(Reduction& reduction) {
  const torch::NoGradGuard no_grad;
  const at::Tensor parts = reduction.parts.wait();  // [ranks, bytes of a part]
  for (const ShardLayout::Piece& piece : layout_.pieces()) {
    const WeightShard& shard = shards_[reduction.block].at(piece.name);
    if (shard.gradient.defined()) {
      shard.gradient.add_(layout_.elements(piece, ranks_.rank(), parts).sum(0, false, at::kFloat));
    }
  }
}

}  // namespace ospnext
