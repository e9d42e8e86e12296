#include "parallel/sharded_weights.h"

#include <algorithm>

#include "core/torch/host_memory.h"

namespace ospnext {
namespace {

// Whether the ranks train a parameter of the block that these are the shards of. Nothing is
// exchanged for a block of which nothing is trained.
bool trains(const std::map<std::string, WeightShard>& shards) {
  return std::ranges::any_of(shards,
                             [](const auto& entry) { return entry.second.gradient.defined(); });
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
    parameter.set_data(nothing(parameter.sizes(), parameter.scalar_type(), parameter.device()));
  }
}

ShardedWeights::ShardedWeights(const ProcessGroup& ranks,
                               std::vector<std::shared_ptr<torch::nn::Module>> blocks,
                               const std::optional<ParameterTypes>& gathered,
                               const WeightHome& home)
    : ranks_(ranks), blocks_(std::move(blocks)), offload_(home.offload) {
  if (ranks.alone() && !offload_) {
    return;
  }
  const torch::NoGradGuard no_grad;
  const ParameterTypes types = gathered ? *gathered : types_of(*blocks_.at(0));
  device_ = home.device.value_or(blocks_[0]->parameters().at(0).device());
  copies_ = offload_ ? TransferStream(device_) : TransferStream();
  layout_ = ShardLayout(*blocks_[0], types, ranks.size());
  for (const ShardLayout::Piece& piece : layout_.pieces()) {
    nothing_.push_back(nothing(piece.shape, piece.dtype, device_));
  }
  for (const auto& block : blocks_) {
    layout_.check(*block);
    TORCH_CHECK(gathered || types_of(*block) == types, "weights: blocks differ in their dtypes");
    keep_part_of(*block, /*in_float=*/gathered.has_value());
    point(shards_.size() - 1, nothing_);
  }
}

// Adds the shards of the next block, with its values.
void ShardedWeights::keep_part_of(const torch::nn::Module& block, bool in_float) {
  std::vector<at::Tensor> kept;  // by piece
  if (!in_float) {
    parts_.push_back(offload_ ? host_memory(layout_.part_bytes(), device_)
                              : at::zeros({layout_.part_bytes()}, bytes_here()));
  }
  for (const ShardLayout::Piece& piece : layout_.pieces()) {
    const int64_t count = layout_.range(piece, ranks_.rank()).count;
    kept.push_back(in_float ? nothing({count}, at::kFloat, device_)
                            : layout_.elements(piece, ranks_.rank(), parts_.back()));
  }
  if (in_float) {
    kept = zeros_like(kept);
  }
  auto& shards = shards_.emplace_back();
  const auto parameters = block.named_parameters();
  for (size_t i = 0; i < kept.size(); ++i) {
    const ShardLayout::Piece& piece = layout_.pieces()[i];
    const WeightShard shard{piece.shape, layout_.range(piece, ranks_.rank()).first, kept[i]};
    shard.write(0, parameters[piece.name]);
    shards.emplace(piece.name, shard);
  }
}

ShardedWeights::Lease::~Lease() {
  if (weights_ != nullptr) {
    weights_->release(block_);
  }
}

ShardedWeights::Lease ShardedWeights::lease(size_t block, const std::vector<size_t>& ahead) {
  if (shards_.empty()) {
    return {*this, block};
  }
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(block < blocks_.size(), "weights: there is no block ", block);
  Buffer& buffer = gathered(block);
  for (const size_t next : ahead) {
    gathered(next);
  }
  ++buffer.leases;
  Lease lease(*this, block);
  if (!buffer.is_whole) {
    wait_for(buffer);
    buffer.is_whole = true;
    point(block, buffer.views);
  }
  return lease;
}

void ShardedWeights::release(size_t i) {
  for (Buffer& buffer : buffers_) {
    if (buffer.block == i && buffer.leases > 0 && --buffer.leases == 0) {
      point(i, nothing_);
      buffer.block.reset();
      buffer.is_whole = false;
      buffer.free = Moment::now(device_);
    }
  }
}

// The buffer of block i. Starts to gather the block if it is in none.
ShardedWeights::Buffer& ShardedWeights::gathered(size_t i) {
  Buffer* free = nullptr;
  for (Buffer& buffer : buffers_) {
    if (buffer.block == i) {
      return buffer;
    }
    free = buffer.block ? free : &buffer;
  }
  if (free == nullptr) {
    free = &new_buffer();
  }
  fill(*free, i);
  return *free;
}

ShardedWeights::Buffer& ShardedWeights::new_buffer() {
  Buffer& buffer = buffers_.emplace_back();
  buffer.bytes = at::empty({layout_.part_bytes() * ranks_.size()}, bytes_here());
  buffer.views = layout_.parameters(buffer.bytes);
  if (offload_ || parts_.empty()) {
    buffer.part = ranks_.alone() ? buffer.bytes : at::empty({layout_.part_bytes()}, bytes_here());
    copies_.uses(buffer.part);
  }
  copies_.uses(buffer.bytes);
  buffer.free = Moment::now(device_);
  return buffer;
}

// A free buffer may still be read by work that is queued on the GPU. The stream of copies waits for
// that work, and a collective for the stream that it is started from.
void ShardedWeights::fill(Buffer& buffer, size_t i) {
  buffer.block = i;
  const TransferStream::Scope on(copies_);
  buffer.free.await();
  const at::Tensor part = part_of(i, buffer);
  if (!ranks_.alone()) {
    buffer.gathering = ranks_.start_gather_into(buffer.bytes, part, "weights");
  }
  buffer.filled = Moment::now(device_);
}

// This rank's part of block i on the device, as it is gathered: [bytes of a part] uint8.
at::Tensor ShardedWeights::part_of(size_t i, const Buffer& buffer) const {
  if (!parts_.empty()) {
    return offload_ ? buffer.part.copy_(parts_[i], /*non_blocking=*/true) : parts_[i];
  }
  for (const ShardLayout::Piece& piece : layout_.pieces()) {
    layout_.elements(piece, ranks_.rank(), buffer.part)
        .copy_(shards_[i].at(piece.name).kept, /*non_blocking=*/true);
  }
  return buffer.part;
}

void ShardedWeights::wait_for(Buffer& buffer) {
  if (!ranks_.alone()) {
    buffer.gathering.wait();
  }
  buffer.filled.await();
}

void ShardedWeights::forget_ahead() {
  for (Buffer& buffer : buffers_) {
    if (buffer.block && buffer.leases == 0) {
      wait_for(buffer);
      buffer.block.reset();
      buffer.free = Moment::now(device_);
    }
  }
}

void ShardedWeights::point(size_t block, const std::vector<at::Tensor>& values) {
  std::vector<at::Tensor> parameters = blocks_[block]->parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].set_data(values[i]);
  }
}

void ShardedWeights::begin_training() {
  for (size_t i = 0; i < shards_.size(); ++i) {
    std::vector<WeightShard*> trained;
    std::vector<at::Tensor> kept;
    for (const auto& item : blocks_[i]->named_parameters()) {
      if (item.value().requires_grad()) {
        trained.push_back(&shards_[i].at(item.key()));
        kept.push_back(trained.back()->kept);
      }
    }
    const std::vector<at::Tensor> gradients = zeros_like(kept);
    for (size_t k = 0; k < trained.size(); ++k) {
      trained[k]->gradient = gradients[k];
      trained[k]->kept.mutable_grad() = gradients[k];
      trains_ = true;
    }
  }
}

void ShardedWeights::begin_gradients(size_t i) {
  if (!trains_ || !trains(shards_[i])) {
    return;
  }
  if (!gradients_.defined()) {
    gradients_ = at::empty({layout_.part_bytes() * ranks_.size()}, bytes_here());
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
  if (!trains_ || !trains(shards_[i])) {
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
  if (trains_) {
    forget_ahead();
  }
  const TransferStream::Scope on(copies_);
  if (offload_) {
    Moment::now(device_).synchronize();  // the host may read the sums now
  }
}

void ShardedWeights::finish(Reduction& reduction) {
  const torch::NoGradGuard no_grad;
  const at::Tensor parts = reduction.parts.wait();  // [ranks, bytes of a part]
  const Moment there = Moment::now(device_);
  const TransferStream::Scope on(copies_);
  there.await();
  copies_.uses(parts);
  for (const ShardLayout::Piece& piece : layout_.pieces()) {
    const WeightShard& shard = shards_[reduction.block].at(piece.name);
    if (shard.gradient.defined()) {
      add(shard.gradient,
          layout_.elements(piece, ranks_.rank(), parts).sum(0, false, at::kFloat));  // [n]
    }
  }
}

// Adds x, on the device, to a gradient. One in host memory goes to the device and back: the sum has
// the same bits there as that of a gradient that stays, and the host computes nothing.
void ShardedWeights::add(const at::Tensor& gradient, const at::Tensor& x) const {
  if (offload_) {
    const at::Tensor sum =
        gradient.to(device_, at::kFloat, /*non_blocking=*/true, /*copy=*/true).add_(x);
    gradient.copy_(sum, /*non_blocking=*/true);
  } else {
    gradient.add_(x);
  }
}

// Float32 zeros of these shapes where shards are kept.
std::vector<at::Tensor> ShardedWeights::zeros_like(const std::vector<at::Tensor>& tensors) const {
  if (offload_) {
    return host_zeros_like(tensors, device_);
  }
  std::vector<at::Tensor> zeros;
  for (const at::Tensor& x : tensors) {
    zeros.push_back(at::zeros(x.sizes(), at::TensorOptions(device_).dtype(at::kFloat)));
  }
  return zeros;
}

at::TensorOptions ShardedWeights::bytes_here() const {
  return at::TensorOptions(device_).dtype(at::kByte);
}

}  // namespace ospnext
