#include "train/training_blocks.h"

#include <memory>

#include "core/error.h"
#include "core/torch/recompute.h"

namespace ospnext {
namespace {

constexpr size_t kAhead = 2;  // blocks whose weights are gathered ahead

}  // namespace

Checkpointing CheckpointingFields::parse() const {
  using Kept = Checkpointing::Kept;
  Checkpointing parsed{.in_host_memory = offload_activations};
  if (recompute == "none") {
    parsed.kept = Kept::kEverything;
  } else if (recompute == "attention") {
    parsed.kept = Kept::kAttention;
  } else if (recompute == "all") {
    parsed.kept = Kept::kInput;
  } else if (!recompute.empty() && recompute.size() < 6 &&
             recompute.find_first_not_of("0123456789") == std::string::npos) {
    parsed.kept = Kept::kInput;
    parsed.free_blocks = std::stoll(recompute);
  } else {
    throw InputError("`recompute`: found " + quoted(recompute) +
                     ", expected none, attention, all or a number of blocks");
  }
  if (offload_activations && parsed.kept == Kept::kEverything) {
    throw InputError(
        "`offload_activations`: found with `recompute` none, expected blocks that "
        "compute again");
  }
  return parsed;
}

void train_all_weights(Transformer& transformer, at::ScalarType dtype) {
  // Products with epilogues of their own store what the gradient would compute again.
  transformer->set_numerics({.dtype = dtype, .epilogue = Epilogue::kSeparate});
  for (at::Tensor& parameter : transformer->parameters()) {
    parameter.set_requires_grad(true);
  }
}

TrainingBlocks::TrainingBlocks(Transformer& transformer, const Checkpointing& checkpointing)
    : transformer_(transformer),
      checkpointing_(checkpointing),
      count_(transformer->plan().size()) {}

bool TrainingBlocks::keeps_everything(size_t i) const {
  return checkpointing_.kept == Checkpointing::Kept::kEverything ||
         static_cast<int64_t>(count_ - i) <= checkpointing_.free_blocks;
}

at::Tensor TrainingBlocks::run(size_t i, const BlockFunction& function,
                               const std::vector<at::Tensor>& inputs, const Execution& run) {
  return keeps_everything(i) ? run_once(i, function, inputs, run)
                             : run_twice(i, function, inputs, run);
}

// The weights stay from the forward to the backward pass, which reads them.
at::Tensor TrainingBlocks::run_once(size_t i, const BlockFunction& function,
                                    const std::vector<at::Tensor>& inputs, const Execution& run) {
  ShardedWeights& weights = transformer_->sharded_weights();
  if (weights.size() == 0) {
    return function(inputs, run);
  }
  weights.acquire(i, after(i));
  std::vector<at::Tensor> watched = inputs;
  watched[0] = at_gradient(inputs[0], [&weights, i] {
    weights.add_gradients(i);
    weights.release(i);
  });
  return at_gradient(function(watched, run), [&weights, i] { weights.begin_gradients(i); });
}

at::Tensor TrainingBlocks::run_twice(size_t i, const BlockFunction& function,
                                     const std::vector<at::Tensor>& inputs, const Execution& run) {
  ShardedWeights& weights = transformer_->sharded_weights();
  const auto kept = std::make_shared<KeptAttention>();  // from the first run to the second
  Execution how = run;
  if (checkpointing_.kept == Checkpointing::Kept::kAttention) {
    how.attention = kept.get();
  }
  const auto first = [=, this, &weights](const std::vector<at::Tensor>& in) {
    weights.acquire(i, after(i));
    at::Tensor y = function(in, how);
    weights.release(i);
    return y;
  };
  const auto again = [=, this, &weights](const std::vector<at::Tensor>& in) {
    weights.acquire(i, before(i));
    weights.begin_gradients(i);
    return function(in, how);
  };
  const auto done = [=, &weights] {
    weights.add_gradients(i);
    weights.release(i);
    *kept = {};
  };
  return recompute({first, again, done, checkpointing_.in_host_memory}, inputs);
}

std::vector<size_t> TrainingBlocks::after(size_t i) const {
  std::vector<size_t> blocks;
  for (size_t next = i + 1; next < count_ && next <= i + kAhead; ++next) {
    blocks.push_back(next);
  }
  return blocks;
}

std::vector<size_t> TrainingBlocks::before(size_t i) const {
  std::vector<size_t> blocks;
  for (size_t count = 1; count <= kAhead && count <= i; ++count) {
    blocks.push_back(i - count);
  }
  return blocks;
}

}  // namespace ospnext
