// The files that `ospnext generate` writes: videos, the JSON beside each, previews, tensors.
#pragma once

#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/progress.h"
#include "core/torch/torch.h"
#include "engine/generate_config.h"
#include "engine/text_to_video.h"
#include "io/output_file.h"
#include "io/video.h"

namespace ospnext {

// Takes the videos of one run. A video and its JSON appear together, when all of the video is on disk:
// whatever goes wrong or is killed before leaves neither, and never a JSON beside another video than its
// own. While the object lives no other run can write to the same output.
class VideoFiles final : public VideoReceiver {
 public:
  // `samples` are all videos of the command, which may be more than this run makes. `progress` knows how
  // long they took. Throws InputError when an output could not be written, and for --skip-existing when
  // what exists was made with another configuration. Leaves nothing.
  VideoFiles(const GenerateConfig& config, const std::vector<VideoSample>& samples,
             at::Device device, const Progress& progress);

  // The samples still to make: the indices of all, or of those that --skip-existing finds missing.
  const std::vector<size_t>& to_make() const { return to_make_; }

  // `sample` counts what to_make() lists.
  bool wants_preview(size_t sample, int64_t done) override;
  void preview(size_t sample, int64_t done, const at::Tensor& frame) override;
  void latent(size_t sample, const at::Tensor& latent) override;
  void frames(size_t sample, const at::Tensor& frames) override;
  void finished(size_t sample) override;

 private:
  void check_outputs() const;
  bool is_made(size_t index) const;
  GenerateConfig config_of(size_t index) const { return config_.of_sample(samples_, index); }
  std::filesystem::path sidecar_of(size_t index) const;
  VideoFormat format_of(size_t index) const;
  nlohmann::json record_of(size_t index);

  const GenerateConfig& config_;
  const std::vector<VideoSample>& samples_;
  at::Device device_;
  const Progress& progress_;
  std::vector<size_t> to_make_;
  std::optional<OutputLock> lock_;
  size_t reported_stages_ = 0;  // of progress_, in the records of earlier videos
  std::unique_ptr<VideoWriter> writer_;
  std::future<void>
      writing_;  // of the frames before, while the next are decoded; ends before its writer
  std::vector<at::Tensor> latents_, frames_, videos_;
};

// Seconds of the stages from number `begin` on, and the most memory that was used.
nlohmann::json run_record(const Progress& progress, size_t begin, at::Device device);

}  // namespace ospnext
