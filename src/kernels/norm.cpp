#include "kernels/norm.h"

namespace ospnext {

// torch's fused kernels ask for weights of the input's dtype.

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return at::rms_norm(x, weight.sizes(), weight.to(x.scalar_type()), eps);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  return at::layer_norm(x, weight.sizes(), weight.to(x.scalar_type()), bias.to(x.scalar_type()),
                        eps);
}

}  // namespace ospnext
