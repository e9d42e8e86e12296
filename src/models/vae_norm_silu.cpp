// Channel norm with SiLU: one autograd operation with one kernel forward and few passes over memory
// backward.
// Letters: B batch, C channels, T frames, H x W rows and columns, M = B·T·H·W pixels.
//
// Pixels are the rows of a matrix [M, C], a view of channels-last memory. In bfloat16, sums along a
// row and multiplications per column are matrix products with a small matrix [C, C]: on a GPU,
// broadcasting and reductions over few channels take two to six times as long.
#include "models/vae_norm_silu.h"

#include <ATen/OpMathType.h>
#include <torch/autograd.h>

#include <optional>

#include "core/torch/if_defined.h"
#include "kernels/norm.h"

namespace ospnext::vae {
namespace {

constexpr double kMinSquare = 1e-24;  // added to |x|², so that a zero vector stays zero

// b c t h w -> (b t h w) c
at::Tensor to_rows(const at::Tensor& x) {
  return x.permute({0, 2, 3, 4, 1}).flatten(0, 3);  // [M, C]
}

// (b t h w) c -> b c t h w, the shape of `x`.
at::Tensor from_rows(const at::Tensor& rows, const at::Tensor& x) {
  return rows.view({x.size(0), x.size(2), x.size(3), x.size(4), x.size(1)})
      .permute({0, 4, 1, 2, 3});  // [B, C, T, H, W]
}

// Whether to use matrix products instead of broadcasting and reductions.
bool by_matrix(const at::Tensor& rows) {
  return rows.scalar_type() == at::kBFloat16;
}

// offset + the sum over c of rows[:, c]·weights[c]. rows [M, C], weights [C] -> [M, 1], or [M, C]
// with equal columns from a matrix product.
at::Tensor weighted_sum(const at::Tensor& rows, const at::Tensor& weights, double offset) {
  const int64_t width = rows.size(1);
  return by_matrix(rows) ? at::addmm(at::full({width}, offset, rows.options()), rows,
                                     weights.unsqueeze(1).expand({width, width}))  // [C, C]
                         : (rows * weights).sum(1, true).add_(offset);
}

// Multiplies column c by factors[c]. rows [M, C], factors [C] -> [M, C].
at::Tensor times_columns(const at::Tensor& rows, const at::Tensor& factors) {
  return by_matrix(rows) ? rows.mm(factors.diag()) : rows * factors;
}

// A channels-last tensor [B, C, past_frames + T, H, W]. Its first frames are `past` or zeros, the
// others are not initialised.
at::Tensor behind_past(const at::Tensor& x, int64_t past_frames,
                       const std::optional<at::Tensor>& past) {
  at::Tensor out = at::empty({x.size(0), x.size(1), past_frames + x.size(2), x.size(3), x.size(4)},
                             x.options().memory_format(at::MemoryFormat::ChannelsLast3d));
  at::Tensor front = out.narrow(2, 0, past_frames);
  past ? front.copy_(*past) : front.zero_();
  return out;
}

// b c t h w -> b (t h w) c, a view if x is channels-last.
at::Tensor rows_of_samples(const at::Tensor& x) {
  return x.permute({0, 2, 3, 4, 1}).flatten(1, 3);  // [B, T·H·W, C]
}

// u = x·scale has mean square 1 in each row; y = u·gamma; the output is silu(y). u and scale are
// computed again for the gradient.
struct NormSilu : torch::autograd::Function<NormSilu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& gamma, int64_t past_frames,
                            const std::optional<at::Tensor>& past) {
    context->save_for_backward({gamma, x});
    context->saved_data["past_frames"] = past_frames;
    const at::Tensor out = behind_past(x, past_frames, past);
    at::Tensor rows =
        rows_of_samples(out.narrow(2, past_frames, x.size(2)));  // [B, T·H·W, C], a view
    rms_norm_silu_out(rows, rows_of_samples(x), gamma.flatten(),
                      kMinSquare / static_cast<double>(x.size(1)));  // [B, T·H·W, C]
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& gamma = saved[0];
    const at::Tensor rows = to_rows(saved[1]);  // [M, C]
    const double width = static_cast<double>(rows.size(1));
    const at::Tensor mean = at::full({rows.size(1)}, 1 / width, rows.options());
    const at::Tensor scale = weighted_sum(rows.square(), mean, kMinSquare / width).rsqrt_();
    const at::Tensor u = rows * scale;
    const int64_t past_frames = context->saved_data["past_frames"].toInt();
    const at::Tensor by_out =
        gradients[0].narrow(2, past_frames, gradients[0].size(2) - past_frames);
    const at::Tensor factors = gamma.flatten().to(u.scalar_type());  // [C]
    const at::Tensor y = from_rows(times_columns(u, factors), by_out);
    const at::Tensor by_y = to_rows(at::silu_backward(by_out, y));  // [M, C]
    const at::Tensor product = by_y * u;
    const at::Tensor by_gamma = product.sum(0, false, at::toOpMathType(u.scalar_type()));
    // u does not depend on the length of x, so the gradient's component along u is subtracted.
    const at::Tensor along = weighted_sum(product, factors / gamma.size(0), 0);
    const at::Tensor by_x =
        at::addcmul(times_columns(by_y, factors), u, along, -1).mul_(scale);  // [M, C]
    return {from_rows(by_x, by_out),                                          // [B, C, T, H, W]
            by_gamma.to(gamma.scalar_type()).view(gamma.sizes()),             // [C, 1, 1, 1]
            {},
            {}};
  }
};

}  // namespace

at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& gamma, int64_t past_frames,
                     const at::Tensor& past) {
  return NormSilu::apply(x, gamma, past_frames, if_defined(past));
}

}  // namespace ospnext::vae
