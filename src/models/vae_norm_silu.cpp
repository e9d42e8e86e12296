// Channel norm with SiLU: without gradient one kernel, else one autograd operation of few passes over memory.
//
// Pixels are the rows of a matrix [M, C], M = B*T*H*W: a view of channels-last memory. Sums along a row
// and factors per column are, in bfloat16, products with small matrices: broadcasting and reductions over
// few channels run two to six times slower on a GPU.
#include "models/vae_norm_silu.h"

#include <ATen/OpMathType.h>
#include <torch/autograd.h>

#include <optional>

#include "kernels/norm.h"

namespace ospnext::vae {
namespace {

constexpr double kMinSquare = 1e-24;  // of a vector's length: a zero vector stays zero

// [B, C, T, H, W] -> [M, C]
at::Tensor to_rows(const at::Tensor& x) {
  return x.permute({0, 2, 3, 4, 1}).flatten(0, 3);
}

// [M, C] -> [B, C, T, H, W], laid out like `x`.
at::Tensor from_rows(const at::Tensor& rows, const at::Tensor& x) {
  return rows.view({x.size(0), x.size(2), x.size(3), x.size(4), x.size(1)})
      .permute({0, 4, 1, 2, 3});
}

bool by_matrix(const at::Tensor& rows) {
  return rows.scalar_type() == at::kBFloat16;
}

// Sum over the columns of rows * weights, plus `offset`: [M, 1], or repeated to [M, C] when by matrix.
at::Tensor weighted_sum(const at::Tensor& rows, const at::Tensor& weights, double offset) {
  const int64_t width = rows.size(1);
  return by_matrix(rows) ? at::addmm(at::full({width}, offset, rows.options()), rows,
                                     weights.unsqueeze(1).expand({width, width}))
                         : (rows * weights).sum(1, true).add_(offset);
}

// Column c times factors[c].
at::Tensor times_columns(const at::Tensor& rows, const at::Tensor& factors) {
  return by_matrix(rows) ? rows.mm(factors.diag()) : rows * factors;
}

// [B, C, past_frames + T, H, W] channels-last, with the past, or zeros, in front and nothing yet behind.
at::Tensor behind_past(const at::Tensor& x, int64_t past_frames,
                       const std::optional<at::Tensor>& past) {
  at::Tensor out = at::empty({x.size(0), x.size(1), past_frames + x.size(2), x.size(3), x.size(4)},
                             x.options().memory_format(at::MemoryFormat::ChannelsLast3d));
  at::Tensor front = out.narrow(2, 0, past_frames);
  past ? front.copy_(*past) : front.zero_();
  return out;
}

// [B, C, T, H, W] -> [B, T*H*W, C]
at::Tensor rows_of_samples(const at::Tensor& x) {
  return x.permute({0, 2, 3, 4, 1}).flatten(1, 3);
}

// With u = x * scale, whose mean square in a row is 1, and y = u * gamma, the output is silu(y).
struct NormSilu : torch::autograd::Function<NormSilu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& gamma, int64_t past_frames,
                            const std::optional<at::Tensor>& past) {
    const double width = static_cast<double>(x.size(1));
    const at::Tensor rows = to_rows(x);
    const at::Tensor factors = gamma.flatten().to(x.scalar_type());
    const at::Tensor mean = at::full({x.size(1)}, 1 / width, x.options());
    const at::Tensor scale = weighted_sum(rows.square(), mean, kMinSquare / width).rsqrt_();
    const at::Tensor u = rows * scale;
    at::Tensor out = behind_past(x, past_frames, past);
    at::Tensor behind = out.narrow(2, past_frames, x.size(2));
    at::silu_out(behind, from_rows(times_columns(u, factors), x));
    context->save_for_backward({gamma, u, scale});
    context->saved_data["past_frames"] = past_frames;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &gamma = saved[0], &u = saved[1], &scale = saved[2];
    const int64_t past_frames = context->saved_data["past_frames"].toInt();
    const at::Tensor by_out =
        gradients[0].narrow(2, past_frames, gradients[0].size(2) - past_frames);
    const at::Tensor factors = gamma.flatten().to(u.scalar_type());
    const at::Tensor y = from_rows(times_columns(u, factors), by_out);
    const at::Tensor by_y = to_rows(at::silu_backward(by_out, y));  // [M, C]
    const at::Tensor product = by_y * u;
    const at::Tensor by_gamma = product.sum(0, false, at::toOpMathType(u.scalar_type()));
    // What changes only the length of x does not change u.
    const at::Tensor along = weighted_sum(product, factors / gamma.size(0), 0);
    const at::Tensor by_x =
        at::addcmul(times_columns(by_y, factors), u, along, -1).mul_(scale);  // [M, C]
    return {from_rows(by_x, by_out), by_gamma.to(gamma.scalar_type()).view(gamma.sizes()), {}, {}};
  }
};

}  // namespace

at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& gamma, int64_t past_frames,
                     const at::Tensor& past) {
  const auto some_past = past.defined() ? std::optional<at::Tensor>(past) : std::nullopt;
  if (at::GradMode::is_enabled()) {
    return NormSilu::apply(x, gamma, past_frames, some_past);
  }
  const at::Tensor out = behind_past(x, past_frames, some_past);
  at::Tensor rows =
      rows_of_samples(out.narrow(2, past_frames, x.size(2)));  // [B, T*H*W, C], a view
  rms_norm_silu_out(rows, rows_of_samples(x), gamma.flatten(),
                    kMinSquare / static_cast<double>(x.size(1)));
  return out;
}

}  // namespace ospnext::vae
