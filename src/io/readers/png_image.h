// Reads PNG images.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

struct PngImage {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]
};

// Decodes the bytes of a PNG file of any kind to 8-bit RGB; what is transparent gets black. Throws
// InputError beginning with `origin` for damaged bytes and for an image of more than kMostPixels.
PngImage decode_png(std::string_view bytes, const std::string& origin);

}  // namespace ospnext
