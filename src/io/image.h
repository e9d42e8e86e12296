// PNG images.
#pragma once

#include <torch/torch.h>

#include <filesystem>

namespace ospnext {

// Writes pixels [H, W, 3] uint8 RGB as an 8-bit PNG file, in place (not atomic). Throws RunError.
void write_png(const std::filesystem::path& file, const at::Tensor& pixels);

}  // namespace ospnext
