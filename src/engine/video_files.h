// The output files of `ospnext generate`: videos, the JSON beside each, previews, tensors.
#pragma once

#include <future>
#include <iosfwd>
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

// Writes the videos of one run. A video and its JSON appear together, once the whole video is on
// disk. After an error or a kill before that, neither exists; a JSON never lies beside a video that
// it does not describe. While the object exists, no other run can write to the same output.
class VideoFiles final : public VideoReceiver {
 public:
  // `samples` are all videos of the command, possibly more than this run makes. `progress` provides
  // the seconds of the stages. The name of each finished video is a line in `names`, which may be
  // null. `batch`: videos that are denoised as one batch with each of these, for their records.
  // Throws InputError if an output cannot be written, and with `skip_existing` if an existing video
  // was made with another configuration. Leaves no file behind.
  VideoFiles(const GenerateConfig& config, const std::vector<VideoSample>& samples,
             at::Device device, const Progress& progress, std::ostream* names, int64_t batch = 1);

  // Indices of the samples to make: all, or with `skip_existing` the missing ones.
  const std::vector<size_t>& to_make() const { return to_make_; }

  // `sample` counts what to_make() lists.
  void prompt_cut(const std::string& text, int64_t tokens, int64_t read) override;
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
  std::ostream* names_;
  int64_t batch_;
  std::vector<size_t> to_make_;
  std::optional<OutputLock> lock_;
  size_t reported_stages_ = 0;  // of progress_, in records of earlier videos
  std::unique_ptr<VideoWriter> writer_;
  // Writes the previous frames while the next ones are decoded. Must end before writer_.
  std::future<void> writing_;
  std::vector<at::Tensor> latents_, frames_, videos_;
};

inline constexpr int64_t kPreviewSide = 512;  // pixels; longest side of a preview

// frame [3, 1, H, W] in [-1, 1] -> [h, w, 3] uint8 of at most `side` pixels a side, shrunk by area
// averaging.
at::Tensor small_picture(const at::Tensor& frame, int64_t side);

// Seconds of the stages from index `begin` on, and the peak memory.
nlohmann::json run_record(const Progress& progress, size_t begin, at::Device device);

}  // namespace ospnext
