#include "kernels/modulate.h"

#include <torch/autograd.h>

#include <optional>

#include "core/torch/if_defined.h"
#include "core/torch/shape_check.h"
#include "kernels/amax.h"
#ifdef OSPNEXT_CUDA
#include "kernels/cuda_tensors.h"
#include "kernels/modulate_launch.h"
#endif

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// a + y·factor in fp32, stored in y's dtype. a [B, L or 1, C], y [B, L, C], factor [B, L or 1, C]
// float32 -> [B, L, C]. Forward and backward each take one pass over memory. Plain operators would
// write a float32 copy of y because of type promotion.
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
      const at::Tensor product = grad * y;
      grad_factor = factor.size(1) == 1 ? product.sum(1, /*keepdim=*/true, at::kFloat)
                                        : product.to(at::kFloat);  // [B, L or 1, C]
    }
    return {grad_a, grad_y, grad_factor};
  }
};

#ifdef OSPNEXT_CUDA
// One kernel for forward and one for backward. x [B, L, C]; shift, scale [B, 1, C] float32.
struct LayerNormModulate : torch::autograd::Function<LayerNormModulate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& shift, const at::Tensor& scale, double eps,
                            const std::optional<at::Tensor>& amax) {
    const at::Tensor x = x_in.contiguous();
    const c10::cuda::CUDAGuard device(x.device());
    at::Tensor out = at::empty_like(x);
    cuda::layer_norm_modulate(x.const_data_ptr(), cuda::floats(shift.contiguous()),
                              cuda::floats(scale.contiguous()), out.mutable_data_ptr(),
                              cuda::amax_of(amax, x), cuda::rows_of(x), static_cast<float>(eps),
                              cuda::element_of(x), c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    context->save_for_backward({x, scale});
    context->saved_data["eps"] = eps;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor grad = gradients[0].contiguous();
    const at::Tensor& x = saved[0];
    const at::Tensor scale = saved[1].contiguous();
    const c10::cuda::CUDAGuard device(x.device());
    at::Tensor grad_x = at::empty_like(x);
    const int64_t groups = cuda::column_sum_groups(x.size(1));
    at::Tensor sums = at::empty({2, x.size(0), groups, x.size(2)}, scale.options());
    cuda::layer_norm_modulate_backward(
        grad.const_data_ptr(), x.const_data_ptr(), cuda::floats(scale), grad_x.mutable_data_ptr(),
        sums[0].mutable_data_ptr<float>(), sums[1].mutable_data_ptr<float>(), cuda::rows_of(x),
        static_cast<float>(context->saved_data["eps"].toDouble()), cuda::element_of(x),
        c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const at::Tensor totals = sums.sum(2, /*keepdim=*/true);  // [2, B, 1, C]
    return {grad_x, totals[0], totals[1], {}, {}};
  }
};

// One kernel for forward and one for backward. x, y [B, L, C]; gate [B, 1, C] float32.
struct AddGated : torch::autograd::Function<AddGated> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& y_in, const at::Tensor& gate) {
    const at::Tensor x = x_in.contiguous();
    const at::Tensor y = y_in.contiguous();
    const c10::cuda::CUDAGuard device(x.device());
    at::Tensor out = at::empty_like(x);
    cuda::add_gated(x.const_data_ptr(), y.const_data_ptr(), cuda::floats(gate.contiguous()),
                    out.mutable_data_ptr(), cuda::rows_of(x), cuda::element_of(x),
                    c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    context->save_for_backward({y, gate});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor grad = gradients[0].contiguous();
    const at::Tensor& y = saved[0];
    const at::Tensor gate = saved[1].contiguous();
    const c10::cuda::CUDAGuard device(y.device());
    at::Tensor grad_y = at::empty_like(y);
    at::Tensor sums =
        at::empty({y.size(0), cuda::column_sum_groups(y.size(1)), y.size(2)}, gate.options());
    cuda::add_gated_backward(grad.const_data_ptr(), y.const_data_ptr(), cuda::floats(gate),
                             grad_y.mutable_data_ptr(), sums.mutable_data_ptr<float>(),
                             cuda::rows_of(y), cuda::element_of(y),
                             c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return {grad, grad_y, sums.sum(1, /*keepdim=*/true)};
  }
};
#endif

}  // namespace

at::Tensor layer_norm_modulate(const at::Tensor& x, const at::Tensor& shift,
                               const at::Tensor& scale, double eps, const at::Tensor& amax) {
  const int64_t B = x.size(0), L = x.size(1), C = x.size(2);
  const int64_t rows = shift.size(1);
  TORCH_CHECK(rows == 1 || rows == L, "modulation: expected 1 or ", L, " rows, got ", rows);
  CHECK_SHAPE(shift, B, rows, C);
  CHECK_SHAPE(scale, B, rows, C);
#ifdef OSPNEXT_CUDA
  if (rows == 1 && cuda::takes(x)) {
    return LayerNormModulate::apply(x, shift, scale, eps, if_defined(amax));
  }
#endif
  const at::Tensor out = MultiplyAdd::apply(shift, at::layer_norm(x, {C}, {}, {}, eps), 1 + scale);
  raise_amax(amax, out);
  return out;
}

at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate) {
  const int64_t B = x.size(0), L = x.size(1), C = x.size(2);
  CHECK_SHAPE(y, B, L, C);
  const int64_t rows = gate.size(1);
  TORCH_CHECK(rows == 1 || rows == L, "gate: expected 1 or ", L, " rows, got ", rows);
  CHECK_SHAPE(gate, B, rows, C);
#ifdef OSPNEXT_CUDA
  if (rows == 1 && cuda::takes(x) && y.scalar_type() == x.scalar_type()) {
    return AddGated::apply(x, y, gate);
  }
#endif
  return MultiplyAdd::apply(x, y, gate);
}

}  // namespace ospnext
