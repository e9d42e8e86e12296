// Shape checks whose message says what was expected and what came.
#pragma once

#include <string>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// "[1, 16, 2, 8]"
std::string shape_text(at::IntArrayRef shape);

// Throws c10::Error "y: expected [B, L] = [1, 16], got [1, 15]" unless `tensor` has the shape `expected`;
// -1 fits any size. `names` are the letters as written at the call.
void check_shape(const at::Tensor& tensor, const char* tensor_name, const char* names,
                 const std::vector<int64_t>& expected);

}  // namespace ospnext

#define CHECK_SHAPE(tensor, ...) \
  ::ospnext::check_shape((tensor), #tensor, "[" #__VA_ARGS__ "]", std::vector<int64_t>{__VA_ARGS__})
