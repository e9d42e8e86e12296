// The fields `device` and `precision`.
#pragma once

#include <optional>
#include <string>

#include "core/torch/torch.h"

namespace ospnext {

// Accepts "cpu", "cuda" and "cuda:N". Throws InputError for other text, for a GPU that does not
// exist, and for a GPU in a program built without CUDA.
at::Device parse_device(const std::string& text);

// Of "float32", "fp32", "bf16" and "bfloat16"; nothing for other text.
std::optional<at::ScalarType> precision_dtype(const std::string& text);

// The same. Throws an InputError that begins with `field` for other text.
at::ScalarType parse_precision(const std::string& text, const std::string& field = "`precision`");

}  // namespace ospnext
