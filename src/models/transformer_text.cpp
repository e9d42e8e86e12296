#include "models/transformer_text.h"

#include <cmath>

#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

// Log weights [T] with which the last two of T rows count as n rows together, n >= 2.
// One row with weight log n would be enough in exact arithmetic. But ATen takes weights in bf16,
// where the error would be up to 1.6 % of n. So the first row gets a multiple of 1/16, which bf16
// holds exactly, and the second row gets the rest.
at::Tensor weigh_last_two(int64_t T, int64_t n, at::Device device) {
  constexpr double kSteps = 16;
  const auto count = static_cast<double>(n);
  const double first = (std::ceil(std::log(count) * kSteps) - 1) / kSteps;
  at::Tensor log_weight = at::zeros({T}, at::TensorOptions().device(device).dtype(at::kFloat));
  log_weight.select(0, T - 2).fill_(first);
  log_weight.select(0, T - 1).fill_(std::log(count - std::exp(first)));
  return log_weight;
}

}  // namespace

TextRows pad_text(const at::Tensor& rows, int64_t text_len) {
  constexpr int64_t kMultiple = 8, kFolded = 2;
  const int64_t n = rows.size(1);
  TORCH_CHECK(n <= text_len, "text: expected at most ", text_len, " rows, got ",
              shape_text(rows.sizes()));
  const int64_t few = (n + kFolded + kMultiple - 1) / kMultiple * kMultiple;
  if (few >= text_len) {
    return at::constant_pad_nd(rows, {0, 0, 0, text_len - n});
  }
  return {at::constant_pad_nd(rows, {0, 0, 0, few - n}),
          weigh_last_two(few, text_len - (few - kFolded), rows.device())};
}

}  // namespace ospnext
