#include "kernels/amax.h"

#include "core/torch/shape_check.h"

namespace ospnext {

at::Tensor amax_of_rows(const at::Tensor& x) {
  const auto [lowest, highest] = at::aminmax(x, 1);                // 2 x [B]
  return at::maximum(highest, lowest.neg()).abs().to(at::kFloat);  // [B]; abs() turns -0 into 0
}

void raise_amax(const at::Tensor& amax, const at::Tensor& x) {
  if (!amax.defined() || x.numel() == 0) {
    return;
  }
  const int64_t B = x.size(0);
  CHECK_SHAPE(amax, B);
  at::Tensor raised = amax;
  at::maximum_out(raised, amax, amax_of_rows(x.reshape({B, -1})));  // rows [B, n] -> [B]
}

}  // namespace ospnext
