#include "models/transformer_text.h"

#include "core/torch/shape_check.h"

namespace ospnext {

TextRows pad_text(const at::Tensor& rows, int64_t text_len) {
  constexpr int64_t kMultiple = 8, kFolded = 2;
  const int64_t n = rows.size(1);
  TORCH_CHECK(n <= text_len, "text: expected at most ", text_len, " rows, got ",
              shape_text(rows.sizes()));
  const int64_t few = (n + kFolded + kMultiple - 1) / kMultiple * kMultiple;
  const bool folds = few < text_len;
  const int64_t T = folds ? few : text_len;
  return {at::constant_pad_nd(rows, {0, 0, 0, T - n}), folds ? text_len - (T - kFolded) : 0};
}

}  // namespace ospnext
