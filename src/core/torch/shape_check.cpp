#include "core/torch/shape_check.h"

namespace ospnext {

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

void check_shape(const at::Tensor& tensor, const char* tensor_name, const char* names,
                 const std::vector<int64_t>& expected) {
  bool fits = tensor.defined() && tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; fits && i < expected.size(); ++i) {
    fits = expected[i] == -1 || tensor.size(static_cast<int64_t>(i)) == expected[i];
  }
  TORCH_CHECK(fits, tensor_name, ": expected ", names, " = ", shape_text(expected), ", got ",
              tensor.defined() ? shape_text(tensor.sizes()) : std::string("no tensor"));
}

}  // namespace ospnext
