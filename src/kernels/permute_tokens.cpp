#include "kernels/permute_tokens.h"

#include <torch/autograd.h>

#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct PermuteTokens : torch::autograd::Function<PermuteTokens> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& index,
                            const at::Tensor& inverse) {
    context->save_for_backward({inverse});
    return x.index_select(1, index);  // [B, L, C]
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor inverse = context->get_saved_variables()[0];
    return {gradients[0].index_select(1, inverse), {}, {}};
  }
};

}  // namespace

at::Tensor permute_tokens(const at::Tensor& x, const at::Tensor& index, const at::Tensor& inverse) {
  const int64_t L = x.size(1);
  CHECK_SHAPE(index, L);
  CHECK_SHAPE(inverse, L);
  return PermuteTokens::apply(x, index, inverse);
}

}  // namespace ospnext
