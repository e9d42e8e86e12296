#include "models/rope.h"

#include <algorithm>

namespace ospnext {
namespace {

constexpr double kTheta = 10000;

// The angles of one axis, [length, dim/2] float64: position·theta^(-2i/dim), for the positions from
// `first` on.
at::Tensor axis_angles(int64_t length, int64_t dim, int64_t first = 0) {
  const auto exponents = at::arange(0, dim, 2, at::kDouble) / std::max<int64_t>(dim, 1);  // [dim/2]
  const auto positions =
      at::arange(first, first + length, at::kDouble).unsqueeze(1);  // [length, 1]
  return positions * at::pow(kTheta, -exponents);
}

}  // namespace

std::array<int64_t, 3> rope_axis_dims(int64_t head_dim) {
  const int64_t side = 2 * (head_dim / 6);
  return {head_dim - 2 * side, side, side};
}

at::Tensor rope_table(int64_t head_dim, const Layout& layout, int64_t first_frame) {
  TORCH_CHECK(head_dim > 0 && head_dim % 2 == 0, "head width: expected an even number, got ",
              head_dim);
  const auto [T, H, W] = layout.grid();
  const auto dims = rope_axis_dims(head_dim);
  const auto t = axis_angles(T, dims[0], first_frame)
                     .view({T, 1, 1, dims[0] / 2})
                     .expand({T, H, W, -1});  // [T, H, W, dims[0]/2]
  const auto rows = axis_angles(H, dims[1])
                        .view({1, H, 1, dims[1] / 2})
                        .expand({T, H, W, -1});  // [T, H, W, dims[1]/2]
  const auto columns = axis_angles(W, dims[2])
                           .view({1, 1, W, dims[2] / 2})
                           .expand({T, H, W, -1});  // [T, H, W, dims[2]/2]
  const auto angles = at::cat({t, rows, columns}, 3)
                          .flatten(0, 2)
                          .index_select(0, layout.order().to(at::kCPU));  // [L, head_dim/2]
  return at::complex(angles.cos().to(at::kFloat), angles.sin().to(at::kFloat))
      .to(layout.order().device());
}

}  // namespace ospnext
