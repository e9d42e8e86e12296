#include "kernels/norm.h"

#include <torch/autograd.h>

#include <optional>

#include "core/torch/if_defined.h"
#include "core/torch/shape_check.h"
#include "kernels/amax.h"
#include "kernels/rotate_pairs.h"
#ifdef OSPNEXT_CUDA
#include "kernels/cuda_tensors.h"
#include "kernels/norm_launch.h"
#endif

namespace ospnext {

#ifdef OSPNEXT_CUDA
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The rotation [L, D/2] complex64 as an argument of the kernels; null without one.
cuda::HeadRotation head_rotation(const std::optional<at::Tensor>& rotation) {
  if (!rotation) {
    return {nullptr, 8};
  }
  return {cuda::floats(at::view_as_real(*rotation)), static_cast<int>(2 * rotation->size(1))};
}

// One kernel for forward and one for backward. x [B, L, C], weight [C] float32, rotation [L, D/2]
// or none.
struct RmsNormRotate : torch::autograd::Function<RmsNormRotate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& weight_in, const std::optional<at::Tensor>& rotation,
                            double eps, const std::optional<at::Tensor>& amax) {
    const at::Tensor x = x_in.contiguous(), weight = weight_in.contiguous();
    const c10::cuda::CUDAGuard device(x.device());
    at::Tensor out = at::empty_like(x);
    cuda::rms_norm_rotate(x.const_data_ptr(), cuda::floats(weight), head_rotation(rotation),
                          out.mutable_data_ptr(), cuda::amax_of(amax, x), cuda::rows_of(x),
                          static_cast<float>(eps), cuda::element_of(x),
                          c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    context->save_for_backward({x, weight});
    context->saved_data["rotation"] = rotation;
    context->saved_data["eps"] = eps;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor grad = gradients[0].contiguous();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const auto rotation = context->saved_data["rotation"].toOptional<at::Tensor>();
    const c10::cuda::CUDAGuard device(x.device());
    at::Tensor grad_x = at::empty_like(x);
    at::Tensor sums =
        at::empty({x.size(0), cuda::column_sum_groups(x.size(1)), x.size(2)}, weight.options());
    cuda::rms_norm_rotate_backward(grad.const_data_ptr(), x.const_data_ptr(), cuda::floats(weight),
                                   head_rotation(rotation), grad_x.mutable_data_ptr(),
                                   sums.mutable_data_ptr<float>(), cuda::rows_of(x),
                                   static_cast<float>(context->saved_data["eps"].toDouble()),
                                   cuda::element_of(x), c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return {grad_x, sums.sum(at::IntArrayRef({0, 1})), {}, {}, {}};
  }
};

}  // namespace
#endif

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    const at::Tensor& amax) {
  CHECK_SHAPE(weight, x.size(-1));
#ifdef OSPNEXT_CUDA
  if (cuda::takes(x) && weight.scalar_type() == at::kFloat) {
    // Only amax needs separate samples.
    const at::Tensor rows =
        x.reshape({amax.defined() ? x.size(0) : 1, -1, x.size(-1)});  // [B or 1, rows, C]
    return RmsNormRotate::apply(rows, weight, std::nullopt, eps, if_defined(amax))
        .view(x.sizes());  // [..., C]
  }
#endif
  // torch's fused kernel needs weights of x's dtype.
  const at::Tensor out = at::rms_norm(x, weight.sizes(), weight.to(x.scalar_type()), eps);
  raise_amax(amax, out);
  return out;
}

at::Tensor rms_norm_rotate(const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& rotation, double eps, const at::Tensor& amax) {
  const int64_t L = x.size(1), C = x.size(2), D = 2 * rotation.size(1);
  CHECK_SHAPE(weight, C);
  CHECK_SHAPE(rotation, L, D / 2);
  TORCH_CHECK(D > 0 && C % D == 0, "rotation: expected heads of a width that divides ", C, ", got ",
              D);
#ifdef OSPNEXT_CUDA
  if (cuda::takes(x) && weight.scalar_type() == at::kFloat && D % 8 == 0) {
    return RmsNormRotate::apply(x, weight, std::make_optional(rotation), eps, if_defined(amax));
  }
#endif
  const at::Tensor out =
      rotate_pairs(rms_norm(x, weight, eps).unflatten(2, {C / D, D}), rotation)  // [B, L, H, D]
          .flatten(2);                                                           // [B, L, C]
  raise_amax(amax, out);
  return out;
}

void rms_norm_silu_out(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps) {
  const int64_t B = x.size(0), L = x.size(1), C = x.size(2);
  CHECK_SHAPE(weight, C);
  CHECK_SHAPE(out, B, L, C);
#ifdef OSPNEXT_CUDA
  const bool packed = out.stride(2) == 1 && out.stride(1) == C;
  if (cuda::takes(x) && C <= cuda::kMostSiluChannels && packed) {
    const at::Tensor rows = x.contiguous(), factors = weight.to(at::kFloat).contiguous();
    const c10::cuda::CUDAGuard device(x.device());
    cuda::rms_norm_silu(rows.const_data_ptr(), cuda::floats(factors), out.mutable_data_ptr(),
                        out.stride(0), cuda::rows_of(rows), static_cast<float>(eps),
                        cuda::element_of(x), c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return;
  }
#endif
  at::silu_out(out, rms_norm(x, weight, eps));
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  return at::layer_norm(x, weight.sizes(), weight.to(x.scalar_type()), bias.to(x.scalar_type()),
                        eps);
}

}  // namespace ospnext
