#include "kernels/residual.h"

#include <torch/autograd.h>

#include <optional>

#include "core/torch/if_defined.h"
#include "kernels/modulate.h"
#ifdef OSPNEXT_CUDA
#include "kernels/cublas_lt.h"
#include "kernels/cuda_tensors.h"
#endif

namespace ospnext {

#ifdef OSPNEXT_CUDA
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// of_channels times the gate of sample b: weight [C, in] or bias [C]; gate [B, 1, C] float32.
at::Tensor gated(const at::Tensor& of_channels, const at::Tensor& gate, int64_t b) {
  const at::Tensor factors = gate[b][0];  // [C]
  at::Tensor scaled = at::empty_like(of_channels);
  return at::mul_out(scaled, of_channels,
                     of_channels.dim() == 2 ? factors.unsqueeze(1) : factors);  // [C, in] or [C]
}

// Adds the branch of x [B, L, in] to `sum` [B, L, C] in place. gate [B, 1, C] or none.
void add_product(const at::Tensor& sum, const std::optional<at::Tensor>& gate, const at::Tensor& x,
                 const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  const at::Tensor rows = x.contiguous();
  for (int64_t b = 0; b < x.size(0); ++b) {
    const at::Tensor plain_bias = bias.value_or(at::Tensor());
    cuda::lt_product(sum[b], {.x = rows[b],
                              .weight = gate ? gated(weight, *gate, b) : weight,
                              .bias = gate && bias ? gated(plain_bias, *gate, b) : plain_bias,
                              .adds = true});
  }
}

// residual + gate·(x Wᵀ + b) by add_product(). residual [B, L, C], gate [B, 1, C] or none, x
// [B, L, in], weight [C, in], bias [C] or none.
struct AddedProduct : torch::autograd::Function<AddedProduct> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& residual,
                            const std::optional<at::Tensor>& gate, const at::Tensor& x,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
    const at::Tensor sum = residual.clone(at::MemoryFormat::Contiguous);
    add_product(sum, gate, x, weight, bias);
    context->save_for_backward(
        {gate.value_or(at::Tensor()), x, weight, bias.value_or(at::Tensor())});
    return sum;
  }

  // With G = gradᵀ x of a sample, the gradient of the weight is gate·G, and that of the gate is the
  // sum over G·W along a row: the branch is not needed again.
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &weight = saved[2], &bias = saved[3];
    const at::Tensor grad = gradients[0].contiguous(), x = saved[1].contiguous();
    const size_t input = gate.defined() ? 2 : 1;  // autograd does not count an absent gate
    const bool wants_gate = gate.defined() && context->needs_input_grad(1);
    const bool wants_weight = context->needs_input_grad(input + 1);
    const bool wants_bias = bias.defined() && context->needs_input_grad(input + 2);
    at::Tensor by_x = context->needs_input_grad(input) ? at::empty_like(x) : at::Tensor();
    at::Tensor by_gate = wants_gate ? at::empty_like(gate) : at::Tensor();
    at::Tensor by_weight, by_bias;
    const auto add = [](at::Tensor& sum, const at::Tensor& part) {
      sum = sum.defined() ? sum.add_(part) : part;
    };
    for (int64_t b = 0; b < x.size(0); ++b) {
      const auto scaled = [&](const at::Tensor& of_channels) {
        return gate.defined() ? gated(of_channels, gate, b) : of_channels;
      };
      if (by_x.defined()) {
        at::Tensor rows = by_x[b];
        at::mm_out(rows, grad[b], scaled(weight));  // [L, C] x [C, in]
      }
      const at::Tensor sums = wants_gate || wants_bias ? grad[b].sum(0) : at::Tensor();  // [C]
      if (wants_gate || wants_weight) {
        const at::Tensor product = grad[b].t().mm(x[b]);  // [C, L] x [L, in] -> [C, in]
        if (wants_gate) {
          const at::Tensor along =
              at::bmm(weight.unsqueeze(1), product.unsqueeze(2)).flatten();  // [C]
          by_gate[b][0].copy_(bias.defined() ? along + bias * sums : along);
        }
        if (wants_weight) {
          add(by_weight, scaled(product));
        }
      }
      if (wants_bias) {
        add(by_bias, scaled(sums));
      }
    }
    return {grad, by_gate, by_x, by_weight, by_bias};
  }
};

// GELU in the epilogue. x [M, in], weight [out, in], bias [out] -> [M, out].
struct ProductGelu : torch::autograd::Function<ProductGelu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias) {
    context->save_for_backward({x, weight, bias});
    return at::_addmm_activation(bias, x, weight.t(), 1, 1, /*use_gelu=*/true);  // [M, out]
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const at::Tensor grad =
        at::gelu_backward(gradients[0], at::linear(x, weight, bias), "tanh");  // [M, out]
    return {context->needs_input_grad(0) ? grad.mm(weight) : at::Tensor(),
            context->needs_input_grad(1) ? grad.t().mm(x) : at::Tensor(),  // [out, in]
            context->needs_input_grad(2) ? grad.sum(0) : at::Tensor()};
  }
};

// Whether add_product() takes the operands, and is faster than a separate pass. With a gate it
// multiplies the weights and starts a product for each sample, which a small sum does not repay.
bool takes_residual(const Residual& residual, const at::Tensor& x, const at::Tensor& weight) {
  constexpr int64_t kFewestSums = int64_t{1} << 22;  // of a sample
  const bool is_gated = residual.gate.defined();
  const bool pays =
      !is_gated || (x.size(1) > x.size(2) && x.size(1) * weight.size(0) >= kFewestSums);
  return residual.x.defined() && x.dim() == 3 && pays &&
         (!is_gated || residual.gate.size(1) == 1) && cuda::lt_takes(x, weight);
}

}  // namespace
#endif

at::Tensor add_branch(const Residual& residual, const at::Tensor& branch) {
  if (!residual.x.defined()) {
    return branch;
  }
  return residual.gate.defined() ? add_gated(residual.x, branch, residual.gate)
                                 : residual.x + branch;
}

at::Tensor linear(const Residual& residual, const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias, [[maybe_unused]] Epilogue epilogue) {
#ifdef OSPNEXT_CUDA
  if (epilogue == Epilogue::kFused && takes_residual(residual, x, weight)) {
    const auto gate = if_defined(residual.gate), some_bias = if_defined(bias);
    const auto rows = [&](const at::Tensor& of_samples) {
      return gate ? of_samples : of_samples.flatten(0, 1).unsqueeze(0);  // [B, L, n] -> [1, BL, n]
    };
    if (!residual.overwrite) {
      return AddedProduct::apply(rows(residual.x), gate, rows(x), weight, some_bias)
          .view(residual.x.sizes());  // [B, L, C]
    }
    const at::Tensor sum = residual.x.contiguous();
    add_product(rows(sum), gate, rows(x), weight, some_bias);
    return sum;
  }
#endif
  return add_branch(residual, bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight));
}

at::Tensor linear_gelu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       [[maybe_unused]] Epilogue epilogue) {
#ifdef OSPNEXT_CUDA
  if (epilogue == Epilogue::kFused && x.is_cuda()) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)});  // [rows, in]
    return ProductGelu::apply(rows, weight, bias)
        .unflatten(0, x.sizes().slice(0, x.dim() - 1));  // [..., out]
  }
#endif
  return at::gelu(at::linear(x, weight, bias), "tanh");
}

}  // namespace ospnext
