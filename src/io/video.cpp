#include "io/video.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/extension.h"
#include "core/torch/shape_check.h"
#include "io/output_file.h"
#include "io/video_writers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

#ifdef OSPNEXT_FFMPEG
constexpr auto* kOpenWebp = open_webp;
constexpr auto* kOpenGif = open_gif;
#else
constexpr decltype(&open_y4m) kOpenWebp = nullptr, kOpenGif = nullptr;
#endif

// The digits of a %d (0) or %0Nd (N, up to 9) at name[place], which is moved to its last character;
// nothing where there is another thing.
std::optional<size_t> number_at(const std::string& name, size_t& place) {
  constexpr size_t kMostDigits = 9;
  const size_t end = std::min(name.find_first_not_of("0123456789", place + 1), name.size());
  size_t digits = 0;
  for (size_t i = place + 1; i < end && digits <= kMostDigits; ++i) {
    digits = digits * 10 + static_cast<size_t>(name[i] - '0');
  }
  const bool is_padding = digits == 0 || name[place + 1] == '0';
  if (end == name.size() || name[end] != 'd' || !is_padding || digits > kMostDigits) {
    return std::nullopt;
  }
  place = end;
  return digits;
}

const VideoContainer& container_of(const fs::path& output, const std::string& what) {
  const std::string extension = extension_of(output);
  for (const VideoContainer& container : video_containers()) {
    if (extension == container.extension && (extension != ".png" || frame_pattern(output))) {
      return container;
    }
  }
  throw InputError(what + "expected a name ending in " + video_endings() +
                   ", or one for PNG frames with one number in it, such as %04d.png (%% is a "
                   "percent sign)");
}

// Throws InputError, beginning with `what`, if the container cannot store the format.
void check_fits(const VideoContainer& container, const VideoFormat& format,
                const std::string& what) {
  const std::string extension = container.extension;
  const std::string size = std::to_string(format.width) + "x" + std::to_string(format.height);
  if (container.even_sides && (format.width % 2 != 0 || format.height % 2 != 0)) {
    throw InputError(what + size + ", expected even sides");
  }
  if (std::max(format.width, format.height) > container.largest_side) {
    throw InputError(what + size + ", expected sides of at most " +
                     std::to_string(container.largest_side) + " in " + extension);
  }
  if (format.fps > container.fastest) {
    throw InputError(what + std::to_string(format.fps) + " frames a second, expected at most " +
                     std::to_string(static_cast<int64_t>(container.fastest)) + " in " + extension);
  }
  if (*container.encoder != '\0') {
#ifdef OSPNEXT_FFMPEG
    check_encoder(container.encoder, what);
#else
    throw InputError(what + "this program was built without FFmpeg; use .y4m or %04d.png");
#endif
  }
}

}  // namespace

const std::vector<VideoContainer>& video_containers() {
  static const std::vector<VideoContainer> all = [] {
    std::vector<VideoContainer> list = muxed_containers();
    list.push_back({".webp", "libwebp", false, 16383, 1000, kOpenWebp});
    list.push_back({".gif", "gif", false, 65535, 50, kOpenGif});  // viewers slow down faster files
    list.push_back({".y4m", "", true, kAnySide, kAnyRate, open_y4m});
    list.push_back({".png", "", false, kAnySide, kAnyRate, open_png_frames});
    return list;
  }();
  return all;
}

const std::string& video_endings() {
  static const std::string text = [] {
    std::string list;
    const size_t count = video_containers().size() - 1;  // without .png
    for (size_t i = 0; i < count; ++i) {
      list.append(i == 0 ? "" : i + 1 == count ? " or " : ", ");
      list.append(video_containers()[i].extension);
    }
    return list;
  }();
  return text;
}

bool is_video_name(const fs::path& file) {
  const auto& all = video_containers();
  return std::any_of(all.begin(), all.end(), [&](const VideoContainer& container) {
    return extension_of(file) == container.extension;
  });
}

void check_video_output(const fs::path& output, const VideoFormat& format,
                        const std::string& flag) {
  const std::string what = flag + " " + output.string() + ": ";
  check_fits(container_of(output, what), format, what);
  check_writable(frame_pattern(output) ? numbered_file(output, 0) : output, flag);
}

std::unique_ptr<VideoWriter> open_video(const fs::path& output, const VideoFormat& format) {
  const std::string what = output.string() + ": ";
  const VideoContainer& container = container_of(output, what);
  check_fits(container, format, what);
  return container.open(output, format);
}

std::optional<FramePattern> frame_pattern(const fs::path& output) {
  if (extension_of(output) != ".png") {
    return std::nullopt;
  }
  const std::string name = output.filename().string();
  FramePattern pattern;
  bool has_number = false;
  for (size_t i = 0; i < name.size(); ++i) {
    std::string& text = has_number ? pattern.after : pattern.before;
    if (name[i] != '%') {
      text += name[i];
    } else if (name.compare(i, 2, "%%") == 0) {
      text += name[i++];
    } else {
      const auto digits = number_at(name, i);
      if (!digits || has_number) {
        return std::nullopt;
      }
      pattern.digits = *digits;
      has_number = true;
    }
  }
  return has_number ? std::optional(pattern) : std::nullopt;
}

fs::path numbered_file(const fs::path& output, int64_t index) {
  const auto pattern = frame_pattern(output);
  TORCH_CHECK(pattern, "no pattern: ", output.string());
  std::string number = std::to_string(index);
  number.insert(0, number.size() < pattern->digits ? pattern->digits - number.size() : 0, '0');
  return output.parent_path() / (pattern->before + number + pattern->after);
}

at::Tensor video_to_pixels(const at::Tensor& video) {
  CHECK_SHAPE(video, 3, -1, -1, -1);
  return ((video.to(torch::kFloat32) + 1) / 2 * 255 + 0.5)
      .floor()
      .clamp(0, 255)
      .to(torch::kUInt8)
      .permute({1, 2, 3, 0})  // [n, H, W, 3]
      .contiguous()
      .cpu();
}

FrameRate frame_rate(double fps) {
  if (fps == std::floor(fps)) {
    return {static_cast<int64_t>(fps), 1};
  }
  const int64_t thousands = std::llround(fps * 1.001);
  if (std::abs(static_cast<double>(thousands) / 1.001 - fps) < 0.0005) {
    return {thousands * 1000, 1001};
  }
  const int64_t thousandths = std::llround(fps * 1000);
  const int64_t divisor = std::gcd(thousandths, int64_t{1000});
  return {thousandths / divisor, 1000 / divisor};
}

at::Tensor checked_frames(const at::Tensor& frames, const VideoFormat& format) {
  CHECK_SHAPE(frames, -1, format.height, format.width, 3);
  TORCH_CHECK(frames.scalar_type() == torch::kUInt8, "frames: expected uint8");
  return frames.cpu().contiguous();  // [n, H, W, 3]
}

}  // namespace ospnext
