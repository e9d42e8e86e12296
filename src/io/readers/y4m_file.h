// Reads YUV4MPEG2 files: a line of text, followed by raw frames.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/readers/mapped_file.h"

namespace ospnext {

struct Y4mFormat {
  int64_t width = 0, height = 0;
  double fps = 0;
  int64_t chroma_width = 0, chroma_height = 0;  // 0 for grey frames
  bool chroma_on_left = false;  // chroma lies on the left pixel of two, else between them
  bool full_range = false;      // samples use 0 to 255, else 16 to 235 (240 for chroma)

  size_t frame_bytes() const {
    return static_cast<size_t>(width * height + 2 * chroma_width * chroma_height);
  }
};

// A file whose frames are read one after the other. Memory does not grow with the file.
// Source: mjpegtools, yuv4mpeg(5), and FFmpeg's libavformat/yuv4mpegdec.c for the X tags.
class Y4mFile {
 public:
  // Reads the header. Throws InputError for a file that is no such file, or damaged, interlaced,
  // or has samples of more than 8 bits, chroma planes of another kind, or pixels that are not
  // square.
  explicit Y4mFile(const std::filesystem::path& file);

  const Y4mFormat& format() const { return format_; }
  // The planes Y, Cb, Cr of the next frame in this order, row after row; nothing behind the last
  // one. Valid until the next call. Throws InputError for a frame that is cut off.
  std::optional<std::span<const std::byte>> next();

 private:
  std::string_view line();  // without its newline

  MappedFile file_;
  size_t place_ = 0;
  int64_t frames_ = 0;
  Y4mFormat format_;
};

}  // namespace ospnext
