#include "kernels/rotate_pairs.h"

#include "core/torch/shape_check.h"
#ifdef OSPNEXT_CUDA
#include "kernels/cuda_tensors.h"
#include "kernels/rotate_pairs_launch.h"
#endif

namespace ospnext {
#ifdef OSPNEXT_CUDA
namespace {

at::Tensor rotated(const at::Tensor& x_in, const at::Tensor& rotation, bool inverse) {
  const at::Tensor x = x_in.contiguous();
  const c10::cuda::CUDAGuard device(x.device());
  at::Tensor out = at::empty_like(x);
  cuda::rotate_pairs(x.const_data_ptr(), cuda::floats(at::view_as_real(rotation)),
                     out.mutable_data_ptr(), x.size(0), x.size(1), x.size(2), x.size(3), inverse,
                     cuda::element_of(x), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

// One kernel each way: the gradient of a rotation is turned back by it.
struct RotatePairs : torch::autograd::Function<RotatePairs> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& rotation) {
    context->save_for_backward({rotation});
    return rotated(x, rotation, /*inverse=*/false);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    return {rotated(gradients[0], context->get_saved_variables()[0], /*inverse=*/true), {}};
  }
};

}  // namespace
#endif

at::Tensor rotate_pairs(const at::Tensor& x, const at::Tensor& rotation) {
  const int64_t L = x.size(1), D = x.size(3);
  CHECK_SHAPE(rotation, L, D / 2);
#ifdef OSPNEXT_CUDA
  if (cuda::takes(x)) {
    return RotatePairs::apply(x, rotation);
  }
#endif
  const auto pairs =
      at::view_as_complex(x.to(at::kFloat).unflatten(3, {D / 2, 2}));  // [B, L, H, D/2]
  return at::view_as_real(pairs * rotation.unsqueeze(1)).flatten(3).to(x.scalar_type());
}

}  // namespace ospnext
