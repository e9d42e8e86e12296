// Writes one video to a file, for programs that use the engine as a library.
#pragma once

#include <filesystem>
#include <memory>

#include "engine/generation_config.h"
#include "engine/text_to_video.h"
#include "io/video.h"

namespace ospnext {

// Takes the one sample of a job. The file gets its name when the video is finished; before that
// nothing is there. Frames are written as they come.
class SingleVideo final : public VideoReceiver {
 public:
  // Throws InputError as open_video() does.
  SingleVideo(const std::filesystem::path& output, const GenerationConfig& config);

  void latent(size_t /*sample*/, const at::Tensor& /*latent*/) override {}
  void frames(size_t sample, const at::Tensor& frames) override;
  void finished(size_t sample) override;

 private:
  std::unique_ptr<VideoWriter> writer_;
};

}  // namespace ospnext
