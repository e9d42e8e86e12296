#include "kernels/rotate_pairs.h"

#include "core/torch/shape_check.h"

namespace ospnext {

at::Tensor rotate_pairs(const at::Tensor& x, const at::Tensor& rotation) {
  const int64_t L = x.size(1), D = x.size(3);
  CHECK_SHAPE(rotation, L, D / 2);
  const auto pairs =
      at::view_as_complex(x.to(at::kFloat).unflatten(3, {D / 2, 2}));  // [B, L, H, D/2]
  return at::view_as_real(pairs * rotation.unsqueeze(1))               // [B, L, H, D/2, 2]
      .flatten(3)                                                      // [B, L, H, D]
      .to(x.scalar_type());
}

}  // namespace ospnext
