#include "kernels/permute_tokens.h"

#include <torch/autograd.h>

#include "core/torch/shape_check.h"
#ifdef OSPNEXT_CUDA
#include "kernels/cuda_tensors.h"
#include "kernels/permute_tokens_launch.h"
#endif

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

#ifdef OSPNEXT_CUDA
// Whether the kernel takes rows like those of x.
bool takes_rows(const at::Tensor& x) {
  constexpr int64_t kVectorBytes = 16, kMostSamples = 65535;
  return x.is_cuda() && x.numel() > 0 && x.size(0) <= kMostSamples &&
         x.size(2) * x.element_size() % kVectorBytes == 0;
}
#endif

// gather_tokens() without a gradient.
at::Tensor gathered(const at::Tensor& x_in, const at::Tensor& index_in) {
#ifdef OSPNEXT_CUDA
  if (takes_rows(x_in) && index_in.numel() > 0) {
    const at::Tensor x = x_in.contiguous(), index = index_in.contiguous();
    const int64_t B = x.size(0), L = x.size(1), C = x.size(2), l = index.size(0);
    const c10::cuda::CUDAGuard device(x.device());
    at::Tensor out = at::empty({B, l, C}, x.options());
    cuda::gather_rows(x.const_data_ptr(), index.const_data_ptr<int64_t>(), out.mutable_data_ptr(),
                      B, L, l, C * x.element_size(), c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return out;
  }
#endif
  return x_in.index_select(1, index_in);
}

struct GatherTokens : torch::autograd::Function<GatherTokens> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& index) {
    context->save_for_backward({index});
    context->saved_data["tokens"] = x.size(1);
    return gathered(x, index);  // [B, l, C]
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor index = context->get_saved_variables()[0];
    const at::Tensor& grad = gradients[0];  // [B, l, C]
    const int64_t L = context->saved_data["tokens"].toInt();
    const at::Tensor none = at::zeros({grad.size(0), L, grad.size(2)}, grad.options());
    return {none.index_add(1, index, grad), {}};  // [B, L, C]
  }
};

struct PermuteTokens : torch::autograd::Function<PermuteTokens> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& index,
                            const at::Tensor& inverse) {
    context->save_for_backward({inverse});
    return gathered(x, index);  // [B, L, C]
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor inverse = context->get_saved_variables()[0];
    return {gathered(gradients[0], inverse), {}, {}};
  }
};

}  // namespace

at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& index) {
  CHECK_SHAPE(x, -1, -1, -1);
  CHECK_SHAPE(index, -1);
  return GatherTokens::apply(x, index);
}

at::Tensor permute_tokens(const at::Tensor& x, const at::Tensor& index, const at::Tensor& inverse) {
  const int64_t L = x.size(1);
  CHECK_SHAPE(index, L);
  CHECK_SHAPE(inverse, L);
  return PermuteTokens::apply(x, index, inverse);
}

}  // namespace ospnext
