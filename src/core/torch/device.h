// The flags --device and --precision.
#pragma once

#include <string>

#include "core/torch/torch.h"

namespace ospnext {

// "cpu", "cuda" or "cuda:1". Throws InputError for another text, for a GPU that is not there and for a
// program built without CUDA.
at::Device parse_device(const std::string& text);

// "float32" or "bf16" (also "bfloat16", "fp32"). Throws InputError, naming `flag`, for another text.
at::ScalarType parse_precision(const std::string& text, const std::string& flag = "--precision");

}  // namespace ospnext
