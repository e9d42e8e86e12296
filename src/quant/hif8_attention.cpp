#include "quant/hif8_attention.h"

#include <torch/autograd.h>

#include <optional>

#include "core/torch/if_defined.h"
#include "kernels/attention.h"
#include "quant/hif8_tensors.h"

namespace ospnext::hif8 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rounded heads x [B, L, H, D].
ScaledHeads operand(const at::Tensor& x, double amax_to, const at::Tensor& amax,
                    Products products) {
  const Input input = round_input(x, amax_to, products, amax);
  return {input.codes, input.scale};
}

struct RoundStraightThrough : torch::autograd::Function<RoundStraightThrough> {
  static at::Tensor forward(AutogradContext* /*context*/, const at::Tensor& x, double amax_to,
                            const std::optional<at::Tensor>& amax, Products products) {
    const at::Tensor known = amax.value_or(at::Tensor());
    return products == Products::kSimulated
               ? round_samples(x, amax_to, known)
               : unscaled(operand(x, amax_to, known, products), x.scalar_type());
  }
  static variable_list backward(AutogradContext* /*context*/, const variable_list& gradients) {
    return {gradients[0], {}, {}, {}};
  }
};

// The products of which values are an operand, if queries and keys are one of `products`.
Products of_values(Products products) {
  return products == Products::kTensorCoresP8 ? products : Products::kSimulated;
}

// Attention of heads in their own dtype, as of `lengths` or `log_weight`.
at::Tensor plain_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const std::vector<int64_t>& lengths, const at::Tensor& log_weight) {
  return lengths.empty() ? ospnext::attention(query, key, value, log_weight)
                         : segmented_attention(query, key, value, lengths);
}

// The operands of fp8_attention() and what selects its keys.
struct Operands {
  ScaledHeads query, key, value;
  at::ScalarType dtype;
  const std::vector<int64_t>& lengths;
  at::Tensor log_weight, out_amax;
};

// fp8_attention(); the gradient is that of plain attention of the operands' values, computed again.
struct Fp8Attention : torch::autograd::Function<Fp8Attention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& /*query*/,
                            const at::Tensor& /*key*/, const at::Tensor& /*value*/,
                            const Operands& it) {
    context->save_for_backward({it.query.values, it.query.scale, it.key.values, it.key.scale,
                                it.value.values, it.value.scale, it.log_weight});
    context->saved_data["lengths"] = it.lengths;
    context->saved_data["dtype"] = static_cast<int64_t>(it.dtype);
    return fp8_attention(it.query, it.key, it.value, it.dtype, it.lengths, it.log_weight,
                         it.out_amax);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    const auto lengths = context->saved_data["lengths"].toIntVector();
    std::vector<at::Tensor> heads;
    for (size_t i = 0; i < 3; ++i) {
      heads.push_back(unscaled({saved[2 * i], saved[2 * i + 1]}, dtype).detach().requires_grad_());
    }
    const at::AutoGradMode with_gradient(true);
    const at::Tensor out = plain_attention(heads[0], heads[1], heads[2], lengths, saved[6]);
    auto found = torch::autograd::grad({out}, heads, {gradients[0]});
    return {found[0], found[1], found[2], {}};
  }
};

}  // namespace

Heads rounded(const Heads& heads, double amax_to, Products products) {
  const auto round = [&](const at::Tensor& x, const at::Tensor& amax, Products of) {
    return RoundStraightThrough::apply(x, amax_to, if_defined(amax), of);
  };
  return {round(heads.query, heads.query_amax, products),
          round(heads.key, heads.key_amax, products),
          round(heads.value, heads.value_amax, of_values(products))};
}

at::Tensor attention(const Heads& heads, double amax_to, Products products,
                     const std::vector<int64_t>& lengths, const at::Tensor& log_weight,
                     const at::Tensor& out_amax) {
  if (products == Products::kSimulated) {
    const Heads values = rounded(heads, amax_to, products);
    return plain_attention(values.query, values.key, values.value, lengths, log_weight);
  }
  const Operands operands{operand(heads.query, amax_to, heads.query_amax, products),
                          operand(heads.key, amax_to, heads.key_amax, products),
                          operand(heads.value, amax_to, heads.value_amax, of_values(products)),
                          heads.value.scalar_type(),
                          lengths,
                          log_weight,
                          out_amax};
  return Fp8Attention::apply(heads.query, heads.key, heads.value, operands);
}

}  // namespace ospnext::hif8
