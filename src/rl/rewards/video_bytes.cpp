#include "rl/rewards/video_bytes.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "core/file_bytes.h"
#include "io/image.h"
#include "io/video.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// A folder for files of a moment.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "ospnext.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw RunError(name + ": cannot be made: " + std::string(std::strerror(errno)));
    }
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

at::Tensor pixels_of(const at::Tensor& video) {
  return video_to_pixels(2 * video - 1);  // [F, H, W, 3]
}

}  // namespace

void check_mp4(const std::string& origin) {
  const ScratchFolder folder;
  check_video_output(folder.path() / "video.mp4",
                     {.width = 16, .height = 16, .fps = 16, .comment = ""}, origin);
}

std::string mp4_bytes(const at::Tensor& video, double fps) {
  const ScratchFolder folder;
  const fs::path file = folder.path() / "video.mp4";
  const auto writer = open_video(
      file, {.width = video.size(3), .height = video.size(2), .fps = fps, .comment = ""});
  writer->write(pixels_of(video));
  writer->finish();
  writer->commit();
  return file_bytes(file);
}

std::vector<std::string> png_bytes(const at::Tensor& video) {
  std::vector<std::string> files;
  for (const at::Tensor& frame : pixels_of(video).unbind()) {
    files.push_back(encode_png(frame));
  }
  return files;
}

}  // namespace ospnext
