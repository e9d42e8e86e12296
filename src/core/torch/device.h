// The flags --device and --precision.
#pragma once

#include <string>

#include "core/torch/torch.h"

namespace ospnext {

// Accepts "cpu", "cuda" and "cuda:N". Throws InputError for other text, for a GPU that does not
// exist, and for a GPU in a program built without CUDA.
at::Device parse_device(const std::string& text);

// Accepts "float32", "fp32", "bf16" and "bfloat16". Throws an InputError that names `flag` for
// other text.
at::ScalarType parse_precision(const std::string& text, const std::string& flag = "--precision");

}  // namespace ospnext
