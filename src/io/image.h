// PNG images.
#pragma once

#include <string>

#include "core/torch/torch.h"

namespace ospnext {

// Encodes pixels [H, W, 3] uint8 RGB as the bytes of an 8-bit PNG file. `comment` (UTF-8), unless
// empty, is stored as the text "Comment".
std::string encode_png(const at::Tensor& pixels, const std::string& comment = "");

}  // namespace ospnext
