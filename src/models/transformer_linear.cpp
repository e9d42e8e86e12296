#include "models/transformer_linear.h"

#include <algorithm>

#include "quant/hif8_tensors.h"

namespace ospnext {
namespace {

// `down` of the adapters of a linear that act, one under the other, [sum of r, in] of `dtype`.
at::Tensor joined_down(const LinearImpl& linear, const Numerics& numerics, at::ScalarType dtype) {
  std::vector<at::Tensor> parts;
  for (const LowRank& one : linear.adapters) {
    if (one.acts(numerics)) {
      parts.push_back(one.down.to(dtype));
    }
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 0);
}

// Their `up` times their factors, side by side, [out, sum of r] of `dtype`.
at::Tensor joined_up(const LinearImpl& linear, const Numerics& numerics, at::ScalarType dtype) {
  std::vector<at::Tensor> parts;
  for (const LowRank& one : linear.adapters) {
    if (one.acts(numerics)) {
      parts.push_back(one.up.to(dtype) * one.factor);
    }
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
}

}  // namespace

std::vector<at::Tensor> joined_amax(const ProcessGroup& ranks, const std::vector<Measured>& parts) {
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> amax;
  for (const Measured& part : parts) {
    amax.push_back(part.amax.defined() || ranks.alone() ? part.amax
                                                        : hif8::amax_of_samples(part.x));
  }
  return ranks.alone() ? amax : ranks.all_max(at::stack(amax), "amax").unbind();
}

Measured joined(const ProcessGroup& ranks, const Measured& x, const LinearImpl& linear) {
  return linear.hif8_scale ? Measured(x.x, joined_amax(ranks, {x})[0]) : Measured(x.x);
}

LinearImpl::LinearImpl(int64_t in, int64_t out, at::TensorOptions options)
    : weight(register_parameter("weight", at::empty({out, in}, options))),
      bias(register_parameter("bias", at::empty({out}, options))) {}

bool LinearImpl::is_adapted(const Numerics& numerics) const {
  return std::ranges::any_of(adapters, [&](const LowRank& one) { return one.acts(numerics); });
}

LinearInput LinearImpl::prepare(const Measured& x, const Numerics& numerics) const {
  return prepare_shared(x, numerics, {this}).front();
}

std::vector<LinearInput> prepare_shared(const Measured& x, const Numerics& numerics,
                                        const std::vector<const LinearImpl*>& linears) {
  LinearInput shared{x.x, {}};
  if (linears.front()->hif8_scale) {
    shared.rounded = hif8::round_input(x.x, numerics.hif8.amax_to, numerics.hif8.products, x.amax);
  }
  std::vector<at::Tensor> downs;
  std::vector<int64_t> ranks;
  for (const LinearImpl* linear : linears) {
    ranks.push_back(0);
    if (linear->is_adapted(numerics)) {
      downs.push_back(joined_down(*linear, numerics, x.x.scalar_type()));
      ranks.back() = downs.back().size(0);
    }
  }
  std::vector<LinearInput> inputs(linears.size(), shared);
  if (!downs.empty()) {
    const at::Tensor reduced =
        at::linear(x.x, downs.size() == 1 ? downs[0] : at::cat(downs, 0));  // [B, ..., sum of r]
    int64_t begin = 0;
    for (size_t i = 0; i < inputs.size(); begin += ranks[i++]) {
      if (ranks[i] > 0) {
        inputs[i].reduced = reduced.narrow(-1, begin, ranks[i]);
      }
    }
  }
  return inputs;
}

at::Tensor LinearImpl::forward(const LinearInput& in, const Numerics& numerics,
                               const Residual& residual) const {
  const auto dtype = in.x.scalar_type();
  Residual sum = residual;
  if (is_adapted(numerics)) {
    sum.x = linear(residual, in.reduced, joined_up(*this, numerics, dtype), /*bias=*/{},
                   numerics.epilogue);  // [B, ..., out]
  }
  return hif8_scale ? hif8::linear(*in.rounded, weight, *hif8_scale, bias, numerics.epilogue, sum)
                    : linear(sum, in.x, weight.to(dtype), bias.to(dtype), numerics.epilogue);
}

at::Tensor LinearImpl::forward_gelu(const LinearInput& in, const Execution& run) const {
  if (hif8_scale || is_adapted(run.numerics)) {
    return at::gelu(forward(in, run.numerics, {.overwrite = run.overwrite}), "tanh");
  }
  const auto dtype = in.x.scalar_type();
  return linear_gelu(in.x, weight.to(dtype), bias.to(dtype), run.numerics.epilogue);
}

}  // namespace ospnext
