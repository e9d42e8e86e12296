// Input: a PNG image.
#include "fuzz/fuzz_entry.h"
#include "io/readers/png_image.h"

FUZZ_ENTRY(png) {
  const ospnext::PngImage image = ospnext::decode_png(input, "input");
  ospnext::fuzz::require(static_cast<int64_t>(image.rgb.size()) == image.width * image.height * 3);
}
