#include "train/training_blocks.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/torch/recompute.h"

namespace ospnext {
namespace {

constexpr size_t kAhead = 2;  // blocks whose weights are gathered ahead

using Held = std::optional<ShardedWeights::Lease>;

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
  for (const auto& [offloads, name] : {std::pair(offload_activations, "`offload_activations`"),
                                       std::pair(offload_weights, "`offload_weights`")}) {
    if (offloads && parsed.kept == Kept::kEverything) {
      throw InputError(std::string(name) +
                       ": found with `recompute` none, expected blocks that compute again");
    }
  }
  return parsed;
}

// Products with epilogues of their own store what the gradient would compute again.
Numerics training_numerics(at::ScalarType dtype) {
  return {.dtype = dtype, .epilogue = Epilogue::kSeparate};
}

void train_all_weights(Transformer& transformer, at::ScalarType dtype) {
  transformer->set_numerics(training_numerics(dtype));
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
  if (!needs_gradients(i, inputs)) {
    return run_without_gradients(i, function, inputs, run);
  }
  return keeps_everything(i) ? run_once(i, function, inputs, run)
                             : run_twice(i, function, inputs, run);
}

// The same on all ranks: it depends on what is trained alone.
bool TrainingBlocks::needs_gradients(size_t i, const std::vector<at::Tensor>& inputs) const {
  const auto needs = [](const at::Tensor& x) { return x.defined() && x.requires_grad(); };
  const auto block = transformer_->blocks->ptr(i);
  return std::ranges::any_of(inputs, needs) || std::ranges::any_of(block->parameters(), needs) ||
         std::ranges::any_of(block->modules(/*include_self=*/false), [&](const auto& module) {
           const auto* linear = module->template as<LinearImpl>();
           return linear != nullptr &&
                  std::ranges::any_of(linear->adapters, [&](const LowRank& one) {
                    return needs(one.down) || needs(one.up);
                  });
         });
}

at::Tensor TrainingBlocks::run_without_gradients(size_t i, const BlockFunction& function,
                                                 const std::vector<at::Tensor>& inputs,
                                                 const Execution& run) {
  const torch::NoGradGuard no_grad;
  const auto lease = transformer_->sharded_weights().lease(i, after(i));
  return function(inputs, run);
}

// The weights stay from the forward to the backward pass, which reads them.
at::Tensor TrainingBlocks::run_once(size_t i, const BlockFunction& function,
                                    const std::vector<at::Tensor>& inputs, const Execution& run) {
  ShardedWeights& weights = transformer_->sharded_weights();
  if (weights.size() == 0) {
    return function(inputs, run);
  }
  const auto held = std::make_shared<Held>(weights.lease(i, after(i)));
  std::vector<at::Tensor> watched = inputs;
  watched[0] = at_gradient(inputs[0], [&weights, held, i] {
    weights.add_gradients(i);
    held->reset();
  });
  return at_gradient(function(watched, run), [&weights, i] { weights.begin_gradients(i); });
}

at::Tensor TrainingBlocks::run_twice(size_t i, const BlockFunction& function,
                                     const std::vector<at::Tensor>& inputs, const Execution& run) {
  ShardedWeights& weights = transformer_->sharded_weights();
  const auto kept = std::make_shared<KeptAttention>();  // from the first run to the second
  const auto held = std::make_shared<Held>();           // from the second run to its gradients
  Execution how = run;
  if (checkpointing_.kept == Checkpointing::Kept::kAttention) {
    how.attention = kept.get();
  }
  const auto first = [=, this, &weights](const std::vector<at::Tensor>& in) {
    const auto lease = weights.lease(i, after(i));
    return function(in, how);
  };
  const auto again = [=, this, &weights](const std::vector<at::Tensor>& in) {
    held->emplace(weights.lease(i, before(i)));
    weights.begin_gradients(i);
    return function(in, how);
  };
  const auto done = [=, &weights] {
    weights.add_gradients(i);
    held->reset();
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
