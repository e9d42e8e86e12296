// Channel norm with SiLU as one autograd operation of few passes over memory.
#include "models/vae_norm_silu.h"

#include <ATen/OpMathType.h>

#include <cmath>
#include <optional>

namespace ospnext::vae {
namespace {

constexpr double kMinLength = 1e-12;  // a zero vector stays zero

// x * scale rounded to the dtype of x, without a tensor of the wider dtype in between.
at::Tensor scaled(const at::Tensor& x, const at::Tensor& scale) {
  at::Tensor product = at::empty_like(x);
  return at::mul_out(product, x, scale);
}

// With u = x * scale (mean square 1) and y = u * gamma, the output is silu(y).
struct NormSilu : torch::autograd::Function<NormSilu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& gamma, int64_t past_frames,
                            const std::optional<at::Tensor>& past) {
    const at::Tensor scale = inverse_length(x) * std::sqrt(static_cast<double>(x.size(1)));
    const at::Tensor y = scaled(x, scale).mul_(gamma);
    at::Tensor out =
        at::empty({x.size(0), x.size(1), past_frames + x.size(2), x.size(3), x.size(4)},
                  x.options().memory_format(x.suggest_memory_format()));
    at::Tensor front = out.narrow(2, 0, past_frames);
    past ? front.copy_(*past) : front.zero_();
    at::Tensor behind = out.narrow(2, past_frames, x.size(2));
    at::silu_out(behind, y);
    context->save_for_backward({x, gamma, scale});
    context->saved_data["past_frames"] = past_frames;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &gamma = saved[1], &scale = saved[2];
    const int64_t past_frames = context->saved_data["past_frames"].toInt();
    const at::Tensor gradient = gradients[0].narrow(2, past_frames, x.size(2));
    const at::Tensor u = scaled(x, scale);
    at::Tensor by_y = at::silu_backward(gradient, scaled(u, gamma));
    at::Tensor product = by_y * u;
    const at::Tensor by_gamma = product.sum({0, 2, 3, 4}, false, scale.scalar_type());
    const at::Tensor along = product.mul_(gamma).mean({1}, true, scale.scalar_type());
    const at::Tensor by_x = by_y.mul_(gamma).sub_(scaled(u, along)).mul_(scale);
    return {by_x, by_gamma.to(gamma.scalar_type()).view(gamma.sizes()), {}, {}};
  }
};

}  // namespace

at::Tensor inverse_length(const at::Tensor& x) {
  return at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, true, at::toOpMathType(x.scalar_type()))
      .clamp_min(kMinLength)
      .reciprocal();
}

at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& gamma, int64_t past_frames,
                     const at::Tensor& past) {
  return NormSilu::apply(x, gamma, past_frames,
                         past.defined() ? std::optional<at::Tensor>(past) : std::nullopt);
}

}  // namespace ospnext::vae
