#include "engine/single_video.h"

namespace ospnext {

SingleVideo::SingleVideo(const std::filesystem::path& output, const GenerationConfig& config)
    : writer_(open_video(
          output,
          {.width = config.width, .height = config.height, .fps = config.fps, .comment = {}})) {}

void SingleVideo::frames(size_t sample, const at::Tensor& frames) {
  TORCH_CHECK(sample == 0, "SingleVideo: expected one sample, got number ", sample);
  writer_->write(video_to_pixels(frames));
}

void SingleVideo::finished(size_t /*sample*/) {
  writer_->finish();
  writer_->commit();
}

}  // namespace ospnext
