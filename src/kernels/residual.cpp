#include "kernels/residual.h"

#include "kernels/modulate.h"
#ifdef OSPNEXT_CUDA
#include "kernels/cublas_lt.h"
#endif

namespace ospnext {

at::Tensor add_branch(const Residual& residual, const at::Tensor& branch) {
  if (!residual.x.defined()) {
    return branch;
  }
  return residual.gate.defined() ? add_gated(residual.x, branch, residual.gate)
                                 : residual.x + branch;
}

at::Tensor linear(const Residual& residual, const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias) {
#ifdef OSPNEXT_CUDA
  const bool pays = !residual.gate.defined() || (x.dim() == 3 && x.size(1) > x.size(2));
  if (residual.x.defined() && pays && cuda::lt_takes(x, weight) && !at::GradMode::is_enabled()) {
    const at::Tensor rows = x.contiguous();
    at::Tensor out = residual.x.contiguous();
    for (int64_t b = 0; b < x.size(0); ++b) {
      const at::Tensor gate = residual.gate.defined() ? residual.gate[b][0] : at::Tensor();  // [C]
      const auto gated = [&](const at::Tensor& of_channels) {
        at::Tensor scaled = at::empty_like(of_channels);
        return at::mul_out(scaled, of_channels,  // weight [C, in] · [C, 1], or bias [C] · [C]
                           of_channels.dim() == 2 ? gate.unsqueeze(1) : gate);  // [C, in] or [C]
      };
      cuda::lt_product(out[b], {.x = rows[b],
                                .weight = gate.defined() ? gated(weight) : weight,
                                .bias = gate.defined() ? gated(bias) : bias,
                                .adds = true});
    }
    return out;
  }
#endif
  return add_branch(residual, at::linear(x, weight, bias));
}

}  // namespace ospnext
