#include "core/torch/recompute.h"

#include <torch/autograd.h>

#include "core/torch/kept_value.h"

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A leaf that needs a gradient: with it among its inputs, a function is part of the backward pass
// even if only leaves inside it need gradients.
at::Tensor anchor() {
  return at::empty({0}).requires_grad_();
}

// A copy of x in pinned host memory, if x is on a GPU.
at::Tensor in_host_memory(const at::Tensor& x) {
  if (!x.is_cuda()) {
    return x;
  }
  at::Tensor copy = at::empty(x.sizes(), x.options().device(at::kCPU).pinned_memory(true));
  return copy.copy_(x, /*non_blocking=*/true);
}

struct Recompute : torch::autograd::Function<Recompute> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& /*anchor*/,
                            at::TensorList inputs, const Recomputation& functions) {
    variable_list kept;
    std::vector<bool> needs_gradient;
    for (const at::Tensor& input : inputs) {
      kept.push_back(functions.keeps_in_host_memory ? in_host_memory(input) : input);
      needs_gradient.push_back(input.requires_grad());
    }
    context->save_for_backward(kept);
    context->saved_data["needs gradient"] = keep_value(needs_gradient);
    context->saved_data["functions"] = keep_value(functions);
    at::Tensor result = functions.first(inputs.vec());
    context->saved_data["device"] = result.device();
    return result;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto& functions = kept_value<Recomputation>(context->saved_data["functions"]);
    const auto& needs_gradient =
        kept_value<std::vector<bool>>(context->saved_data["needs gradient"]);
    const at::Device device = context->saved_data["device"].toDevice();
    variable_list inputs = context->get_saved_variables();
    for (size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = inputs[i].to(device, /*non_blocking=*/true).detach();
      inputs[i].requires_grad_(needs_gradient[i]);
    }
    {
      const at::AutoGradMode with_gradients(true);
      torch::autograd::backward({functions.again(inputs)}, {gradients[0]});
    }
    functions.done();
    variable_list by_input{at::Tensor()};  // of the anchor: none
    for (const at::Tensor& input : inputs) {
      by_input.push_back(input.grad());
    }
    by_input.emplace_back();
    return by_input;
  }
};

struct AtGradient : torch::autograd::Function<AtGradient> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& /*anchor*/, const std::function<void()>& function) {
    context->saved_data["function"] = keep_value(function);
    return x.view_as(x);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    kept_value<std::function<void()>>(context->saved_data["function"])();
    return {gradients[0], {}, {}};
  }
};

}  // namespace

at::Tensor recompute(const Recomputation& functions, const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> given;  // a Function takes no undefined tensors
  std::vector<size_t> places;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined()) {
      given.push_back(inputs[i]);
      places.push_back(i);
    }
  }
  const auto of_given = [&](const TensorFunction& function) {
    return [function, places, size = inputs.size()](const std::vector<at::Tensor>& values) {
      std::vector<at::Tensor> all(size);
      for (size_t i = 0; i < places.size(); ++i) {
        all[places[i]] = values[i];
      }
      return function(all);
    };
  };
  Recomputation compact = functions;
  compact.first = of_given(functions.first);
  compact.again = of_given(functions.again);
  return Recompute::apply(anchor(), at::TensorList(given), compact);
}

at::Tensor at_gradient(const at::Tensor& x, const std::function<void()>& function) {
  return AtGradient::apply(x, anchor(), function);
}

}  // namespace ospnext
