// PNG images.
#pragma once

#include <string>

#include "core/torch/torch.h"

namespace ospnext {

// Pixels [H, W, 3] uint8 RGB as the bytes of an 8-bit PNG file, with `comment` (UTF-8) as its text
// "Comment" unless that is empty.
std::string encode_png(const at::Tensor& pixels, const std::string& comment = "");

}  // namespace ospnext
