#include "io/readers/png_image.h"

#include <png.h>

#include <memory>

#include "core/error.h"
#include "io/readers/frame_size.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

PngImage decode_png(std::string_view bytes, const std::string& origin) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, decltype(&png_image_free)> release(&image, png_image_free);
  const auto require = [&](int success) {
    if (success == 0) {
      throw InputError(origin + ": cannot be read as a PNG image: " + quoted(image.message));
    }
  };
  require(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()));
  check_frame_size(image.width, image.height, origin);
  image.format = PNG_FORMAT_RGB;
  PngImage result{.width = image.width, .height = image.height, .rgb = {}};
  result.rgb.resize(PNG_IMAGE_SIZE(image));
  const png_color black{0, 0, 0};
  require(png_image_finish_read(&image, &black, result.rgb.data(), 0, nullptr));
  return result;
}

}  // namespace ospnext
