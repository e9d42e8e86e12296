// Numbered PNG images.
#include <fstream>
#include <iterator>
#include <map>

#include "core/error.h"
#include "core/extension.h"
#include "io/image.h"
#include "io/output_file.h"
#include "io/video_readers.h"
#include "io/video_writers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// Writes frames to a hidden folder beside their destination until the last one is complete.
class PngWriter final : public VideoWriter {
 public:
  PngWriter(const fs::path& pattern, const VideoFormat& format)
      : pattern_(pattern), format_(format), folder_(pattern) {}

  void write(const at::Tensor& frames) override {
    const at::Tensor pixels = checked_frames(frames, format_);  // [n, H, W, 3]
    for (int64_t i = 0; i < pixels.size(0); ++i) {
      std::ofstream out(waiting(count_), std::ios::binary);
      out << encode_png(pixels[i], format_.comment) << std::flush;
      check_written(out, numbered_file(pattern_, count_));
      ++count_;
    }
  }

  void finish() override {
    for (int64_t i = 0; i < count_; ++i) {
      flush_file(waiting(i), numbered_file(pattern_, i));
    }
  }

  void commit() override {
    for (int64_t i = 0; i < count_; ++i) {
      move_file(waiting(i), numbered_file(pattern_, i));
    }
  }

 private:
  fs::path waiting(int64_t index) const { return folder_.path() / std::to_string(index); }

  fs::path pattern_;
  VideoFormat format_;
  PendingFolder folder_;
  int64_t count_ = 0;
};

// The last number in a file's name; digits beyond the first 18 of it are refused.
int64_t number_in(const fs::path& file) {
  constexpr size_t kMostDigits = 18;
  const std::string name = file.stem().string();
  const size_t end = name.find_last_of("0123456789");
  const size_t before = end == name.npos ? end : name.find_last_not_of("0123456789", end);
  const std::string digits = end == name.npos ? "" : name.substr(before + 1, end - before);
  if (digits.empty() || digits.size() > kMostDigits) {
    throw InputError(file.string() + ": expected a name with a number, which orders the images");
  }
  return std::stoll(digits);
}

class PngReader final : public VideoReader {
 public:
  PngReader(const fs::path& folder, double fps) : fps_(fps) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      const fs::path& file = entry.path();
      if (extension_of(file) == ".png" && !file.filename().string().starts_with(".")) {
        const auto [place, is_new] = files_.emplace(number_in(file), file);
        if (!is_new) {
          throw InputError(file.string() + ": has the number of " + place->second.string());
        }
      }
    }
    if (files_.empty()) {
      throw InputError(folder.string() + ": found no PNG images, expected a video");
    }
    next_ = files_.begin();
  }

  double fps() const override { return fps_; }

  std::optional<VideoFrame> next() override {
    if (next_ == files_.end()) {
      return std::nullopt;
    }
    const at::Tensor pixels = read_png(next_++->second);
    if (count_ == 0) {
      size_ = pixels.sizes().vec();
    } else if (pixels.sizes() != size_) {
      throw InputError(std::prev(next_)->second.string() + ": found " +
                       std::to_string(pixels.size(1)) + "x" + std::to_string(pixels.size(0)) +
                       " pixels, expected " + std::to_string(size_[1]) + "x" +
                       std::to_string(size_[0]) + " as before");
    }
    return VideoFrame{.pixels = pixels, .seconds = static_cast<double>(count_++) / fps_};
  }

 private:
  double fps_;
  std::map<int64_t, fs::path> files_;  // by number
  std::map<int64_t, fs::path>::const_iterator next_;
  std::vector<int64_t> size_;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<VideoReader> read_png_folder(const fs::path& folder, double fps) {
  return std::make_unique<PngReader>(folder, fps);
}

std::unique_ptr<VideoWriter> open_png_frames(const fs::path& pattern, const VideoFormat& format) {
  return std::make_unique<PngWriter>(pattern, format);
}

}  // namespace ospnext
