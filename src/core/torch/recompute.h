// Gradients of a function that is computed again in the backward pass instead of keeping what it
// computed on the way (activation checkpointing).
// Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
#pragma once

#include <functional>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

using TensorFunction = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

struct Recomputation {
  TensorFunction first;        // runs without gradients
  TensorFunction again;        // gives the same tensor; runs with gradients, in the backward pass
  std::function<void()> done;  // runs when the gradients of `again` are known
  // Whether the inputs are kept in pinned host memory until then, not on their GPU.
  bool keeps_in_host_memory = false;
};

// first(inputs), differentiable in the inputs that need gradients and in all leaves that `again`
// uses; the leaves accumulate their gradients. Inputs may be undefined.
at::Tensor recompute(const Recomputation& functions, const std::vector<at::Tensor>& inputs);

// x. In the backward pass, `function` runs before the gradient of x passes on: after those of all
// that was computed of the result, and before those of all that x was computed of.
at::Tensor at_gradient(const at::Tensor& x, const std::function<void()>& function);

}  // namespace ospnext
