// Shape checks. Their messages give the expected and the actual shape.
#pragma once

#include <string>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// A shape as text: "[1, 16, 2, 8]".
std::string shape_text(at::IntArrayRef shape);

// Throws a c10::Error like "y: expected [B, L] = [1, 16], got [1, 15]" unless `tensor` has the
// shape `expected`, in which -1 accepts any size. `names` is the expected shape as written at the
// call. Use it as CHECK_SHAPE(y, B, L).
void check_shape(const at::Tensor& tensor, const char* tensor_name, const char* names,
                 const std::vector<int64_t>& expected);

}  // namespace ospnext

#define CHECK_SHAPE(tensor, ...) \
  ::ospnext::check_shape((tensor), #tensor, "[" #__VA_ARGS__ "]", std::vector<int64_t>{__VA_ARGS__})
