// PNG images.
#pragma once

#include <filesystem>
#include <string>

#include "core/torch/torch.h"

namespace ospnext {

// Encodes pixels [H, W, 3] uint8 RGB as the bytes of an 8-bit PNG file. `comment` (UTF-8), unless
// empty, is stored as the text "Comment".
std::string encode_png(const at::Tensor& pixels, const std::string& comment = "");

// Reads a PNG file of at most 256 MB. -> [H, W, 3] uint8 RGB; what is transparent gets black.
// Throws InputError for a file that cannot be read, is damaged, or is larger than kMostPixels.
at::Tensor read_png(const std::filesystem::path& file);

}  // namespace ospnext
