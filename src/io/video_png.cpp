// Numbered PNG images.
#include <fstream>

#include "io/image.h"
#include "io/output_file.h"
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

}  // namespace

std::unique_ptr<VideoWriter> open_png_frames(const fs::path& pattern, const VideoFormat& format) {
  return std::make_unique<PngWriter>(pattern, format);
}

}  // namespace ospnext
