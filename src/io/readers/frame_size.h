// The largest frame that readers of images and videos accept.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"

namespace ospnext {

inline constexpr int64_t kMostPixels = int64_t{1} << 25;  // 8K fits

// Throws InputError, beginning with `origin`, for a size outside of 1x1 to kMostPixels.
inline void check_frame_size(int64_t width, int64_t height, const std::string& origin) {
  if (width < 1 || height < 1 || width > kMostPixels || height > kMostPixels / width) {
    throw InputError(origin + ": found frames of " + std::to_string(width) + "x" +
                     std::to_string(height) + ", expected 1 to " + std::to_string(kMostPixels) +
                     " pixels");
  }
}

}  // namespace ospnext
