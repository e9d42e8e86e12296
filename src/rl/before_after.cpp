#include "rl/before_after.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "core/error.h"
#include "core/log.h"
#include "io/video.h"
#include "io/video_reader.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

at::Tensor all_frames(const fs::path& file) {
  return read_frames(file, {}, std::numeric_limits<int64_t>::max());  // [F, H, W, 3]
}

}  // namespace

void write_before_after(const std::vector<std::pair<fs::path, fs::path>>& pairs,
                        const fs::path& output, double fps) {
  try {
    std::unique_ptr<VideoWriter> writer;
    for (const auto& [before, after] : pairs) {
      const at::Tensor left = all_frames(before), right = all_frames(after);
      if (left.sizes() != right.sizes()) {
        throw InputError(after.string() + ": found another size or length than in " +
                         before.string());
      }
      const at::Tensor both = at::cat({left, right}, 2);  // [F, H, 2W, 3]
      if (!writer) {
        writer = open_video(
            output, {.width = both.size(2), .height = both.size(1), .fps = fps, .comment = ""});
      }
      writer->write(both);
    }
    writer->finish();
    writer->commit();
  } catch (const std::runtime_error& error) {
    warn("no clips before and after: " + std::string(error.what()));
  }
}

}  // namespace ospnext
