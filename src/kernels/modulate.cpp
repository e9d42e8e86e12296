#include "kernels/modulate.h"

#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// a + y·factor in fp32, stored in y's dtype: one pass over memory each way, where the promotion
// rules of plain operators would write a float32 copy of y. a [B, L or 1, C], y [B, L, C],
// factor [B, 1, C] float32.
struct MultiplyAdd : torch::autograd::Function<MultiplyAdd> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& a, const at::Tensor& y,
                            const at::Tensor& factor) {
    context->save_for_backward({y, factor});
    context->saved_data["one_row"] = a.size(1) == 1;
    at::Tensor out = at::empty_like(y);
    return at::addcmul_out(out, a, y, factor);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& grad = gradients[0];
    const at::Tensor& y = saved[0];
    const at::Tensor& factor = saved[1];
    const bool one_row = context->saved_data["one_row"].toBool();
    at::Tensor grad_a, grad_y, grad_factor;
    if (context->needs_input_grad(0)) {
      grad_a = one_row ? grad.sum(1, /*keepdim=*/true, at::kFloat) : grad;  // [B, L or 1, C]
    }
    if (context->needs_input_grad(1)) {
      grad_y = at::empty_like(y);
      at::mul_out(grad_y, grad, factor);  // [B, L, C]
    }
    if (context->needs_input_grad(2)) {
      grad_factor = (grad * y).sum(1, /*keepdim=*/true, at::kFloat);  // [B, 1, C]
    }
    return {grad_a, grad_y, grad_factor};
  }
};

}  // namespace

at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& shift,
                               const at::Tensor& scale, double eps) {
  const int64_t B = x.size(0), C = x.size(2);
  CHECK_SHAPE(shift, B, 1, C);
  CHECK_SHAPE(scale, B, 1, C);
  return MultiplyAdd::apply(shift, at::layer_norm(x, {C}, {}, {}, eps), 1 + scale);
}

at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate) {
  const int64_t B = x.size(0), L = x.size(1), C = x.size(2);
  CHECK_SHAPE(y, B, L, C);
  CHECK_SHAPE(gate, B, 1, C);
  return MultiplyAdd::apply(x, y, gate);
}

}  // namespace ospnext
