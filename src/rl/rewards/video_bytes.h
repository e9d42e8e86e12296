// Videos as services that score them take them.
#pragma once

#include <string>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// Throws InputError, beginning with `origin`, if this program cannot make mp4_bytes().
void check_mp4(const std::string& origin);
// A video [3, F, H, W] in [0, 1], with even sides, as the bytes of an H.264 file (open_video()) of
// `fps` frames a second. Throws InputError and RunError.
std::string mp4_bytes(const at::Tensor& video, double fps);
// The same as the bytes of a PNG file for each frame, of the nearest 8-bit colours.
std::vector<std::string> png_bytes(const at::Tensor& video);

}  // namespace ospnext
