#include "io/image.h"

#include <png.h>
#include <zlib.h>

#include "core/error.h"
#include "core/torch/shape_check.h"
#include "io/readers/mapped_file.h"
#include "io/readers/png_image.h"

namespace ospnext {
namespace {

std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

// An uncompressed iTXt chunk: keyword, no language, text. Source: PNG specification, 11.3.3.4.
std::string text_chunk(const std::string& text) {
  const std::string checked = std::string("iTXtComment") + std::string(5, '\0') + text;
  const auto crc = static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size())));
  return big_endian(static_cast<uint32_t>(checked.size() - 4)) + checked + big_endian(crc);
}

}  // namespace

std::string encode_png(const at::Tensor& pixels, const std::string& comment) {
  CHECK_SHAPE(pixels, -1, -1, 3);
  TORCH_CHECK(pixels.scalar_type() == torch::kUInt8, "pixels: expected uint8");
  const at::Tensor rows = pixels.cpu().contiguous();
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = static_cast<png_uint_32>(rows.size(0));
  image.width = static_cast<png_uint_32>(rows.size(1));
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&image, bytes.data(), &size, 0, rows.const_data_ptr<uint8_t>(), 0,
                                nullptr) == 0) {
    throw RunError(std::string("cannot make a PNG image: ") + image.message);
  }
  bytes.resize(size);
  if (!comment.empty()) {
    constexpr size_t kBehindHeader = 8 + 25;  // the signature and the IHDR chunk
    bytes.insert(kBehindHeader, text_chunk(comment));
  }
  return bytes;
}

at::Tensor read_png(const std::filesystem::path& file) {
  constexpr size_t kMostBytes = 256 << 20;
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  if (bytes.size() > kMostBytes) {
    throw InputError(mapped.path() + ": found " + std::to_string(bytes.size()) +
                     " bytes, expected at most " + std::to_string(kMostBytes));
  }
  PngImage image =
      decode_png({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, mapped.path());
  return at::from_blob(image.rgb.data(), {image.height, image.width, 3}, at::kByte).clone();
}

}  // namespace ospnext
