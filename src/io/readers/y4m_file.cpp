#include "io/readers/y4m_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "io/readers/frame_size.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

constexpr std::string_view kMagic = "YUV4MPEG2";

int64_t whole_number(std::string_view text, const std::string& origin, const char* what) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) {
    throw InputError(origin + ": " + what + ": found " + quoted(std::string(text)) +
                     ", expected a whole number");
  }
  return number;
}

// "30000:1001"
double ratio(std::string_view text, const std::string& origin, const char* what) {
  const size_t colon = std::min(text.find(':'), text.size());
  const auto above = whole_number(text.substr(0, colon), origin, what);
  const auto below = whole_number(text.substr(std::min(colon + 1, text.size())), origin, what);
  if (below == 0) {
    return 0;  // unknown
  }
  return static_cast<double>(above) / static_cast<double>(below);
}

void set_chroma(Y4mFormat& format, std::string_view name, const std::string& origin) {
  const int64_t half_width = (format.width + 1) / 2, half_height = (format.height + 1) / 2;
  if (name == "420" || name == "420jpeg" || name == "420mpeg2") {
    format.chroma_width = half_width;
    format.chroma_height = half_height;
    format.chroma_on_left = name == "420mpeg2";
  } else if (name == "422") {
    format.chroma_width = half_width;
    format.chroma_height = format.height;
    format.chroma_on_left = true;
  } else if (name == "444") {
    format.chroma_width = format.width;
    format.chroma_height = format.height;
  } else if (name != "mono") {
    throw InputError(origin + ": found chroma " + quoted(std::string(name)) +
                     ", expected 420, 420jpeg, 420mpeg2, 422, 444 or mono, of 8 bits");
  }
}

// One word of the header: a letter and its value.
void read_tag(Y4mFormat& format, std::string_view tag, std::string_view& chroma,
              const std::string& origin) {
  const std::string_view value = tag.substr(1);
  switch (tag.front()) {
    case 'W':
      format.width = whole_number(value, origin, "width");
      break;
    case 'H':
      format.height = whole_number(value, origin, "height");
      break;
    case 'F':
      format.fps = ratio(value, origin, "frame rate");
      break;
    case 'I':
      if (value != "p" && value != "?") {
        throw InputError(origin + ": is interlaced, expected whole frames: deinterlace it first");
      }
      break;
    case 'A':
      if (const double aspect = ratio(value, origin, "aspect of pixels");
          aspect != 0 && std::abs(aspect - 1) > 0.02) {
        throw InputError(origin + ": aspect of pixels: found " + quoted(std::string(value)) +
                         ", expected square ones: scale it first");
      }
      break;
    case 'C':
      chroma = value;
      break;
    case 'X':
      format.full_range = format.full_range || value == "COLORRANGE=FULL";
      break;
    default:
      break;  // the format tells readers to skip what they do not know
  }
}

}  // namespace

Y4mFile::Y4mFile(const std::filesystem::path& file) : file_(file) {
  const std::string& origin = file_.path();
  std::string_view rest = line();
  if (rest != kMagic && !rest.starts_with(std::string(kMagic) + ' ')) {
    throw InputError(origin + ": expected a YUV4MPEG2 file");
  }
  rest.remove_prefix(kMagic.size());
  std::string_view chroma = "420";  // what a file without the tag has
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(' '), rest.size());
    if (end > 0) {
      read_tag(format_, rest.substr(0, end), chroma, origin);
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  check_frame_size(format_.width, format_.height, origin);
  set_chroma(format_, chroma, origin);
  if (!(format_.fps > 1e-3 && format_.fps <= 1000)) {
    throw InputError(origin + ": found no frame rate that is positive and at most 1000");
  }
}

std::string_view Y4mFile::line() {
  constexpr size_t kLongestLine = 1024;
  const auto bytes = file_.bytes().subspan(place_);
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()),
                              std::min(bytes.size(), kLongestLine)};
  const size_t end = text.find('\n');
  if (end == text.npos) {
    throw InputError(file_.path() + (place_ == 0 ? ": expected a YUV4MPEG2 file"
                                                 : ": frame " + std::to_string(frames_) +
                                                       ": the file is damaged or cut off"));
  }
  place_ += end + 1;
  return text.substr(0, end);
}

std::optional<std::span<const std::byte>> Y4mFile::next() {
  file_.drop_pages(file_.bytes().data(), place_);
  if (place_ == file_.bytes().size()) {
    return std::nullopt;
  }
  const std::string_view header = line();
  const size_t size = format_.frame_bytes();
  const bool is_frame = header == "FRAME" || header.starts_with("FRAME ");
  if (!is_frame || file_.bytes().size() - place_ < size) {
    throw InputError(file_.path() + ": frame " + std::to_string(frames_) +
                     ": the file is damaged or cut off");
  }
  const auto planes = file_.bytes().subspan(place_, size);
  place_ += size;
  ++frames_;
  return planes;
}

}  // namespace ospnext
