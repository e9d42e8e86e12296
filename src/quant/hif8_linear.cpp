#include "quant/hif8_linear.h"

#include "quant/hif8_tensors.h"

namespace ospnext::hif8 {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight_values, float weight_scale,
                  const at::Tensor& bias, double amax_to) {
  const at::Tensor scale = scale_to(amax_to, amax_of_samples(x));  // [B]
  const at::Tensor product =
      at::linear(code_values(x, scale), weight_values.to(x.scalar_type()));  // [B, ..., out]
  std::vector<int64_t> beside(static_cast<size_t>(x.dim()), 1);
  beside[0] = x.size(0);
  const at::Tensor factor = (scale * weight_scale).reciprocal().view(beside);  // [B, 1, ...]
  at::Tensor out = at::empty_like(product);
  return at::addcmul_out(out, bias.to(at::kFloat), product, factor);  // in float32, rounded once
}

}  // namespace ospnext::hif8
