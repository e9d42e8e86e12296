#include "io/image.h"

#include <png.h>

#include "core/error.h"
#include "core/torch/shape_check.h"

namespace ospnext {

void write_png(const std::filesystem::path& file, const at::Tensor& pixels) {
  CHECK_SHAPE(pixels, -1, -1, 3);
  TORCH_CHECK(pixels.scalar_type() == torch::kUInt8, "pixels: expected uint8");
  const at::Tensor rows = pixels.cpu().contiguous();
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = static_cast<png_uint_32>(rows.size(0));
  image.width = static_cast<png_uint_32>(rows.size(1));
  image.format = PNG_FORMAT_RGB;
  if (png_image_write_to_file(&image, file.c_str(), 0, rows.const_data_ptr<uint8_t>(), 0,
                              nullptr) == 0) {
    throw RunError(file.string() + ": cannot write the image: " + image.message);
  }
}

}  // namespace ospnext
