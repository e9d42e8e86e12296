// The files of a job: the video with its record, a preview, a thumbnail and a sheet of pictures.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/torch/torch.h"
#include "engine/video_files.h"
#include "server/job_store.h"

namespace ospnext {

// Writes what a client can ask for of one video.
class JobFiles final : public VideoReceiver {
 public:
  // Called with the frames that are decoded and the step of the newest preview.
  struct Watcher {
    std::function<void(int64_t frames)> on_frames;
    std::function<void(int64_t step)> on_preview;
  };
  // `samples` holds the one video of `config`, whose output is store.file_of(job, ...). `preview`:
  // steps between two previews, 0: none. Throws InputError if the files cannot be written.
  JobFiles(const JobStore& store, const Job& job, const GenerateConfig& config,
           const std::vector<VideoSample>& samples, at::Device device, const Progress& progress,
           int64_t preview, Watcher watcher);

  bool wants_preview(size_t sample, int64_t done) override;
  void preview(size_t sample, int64_t done, const at::Tensor& frame) override;
  void latent(size_t, const at::Tensor&) override {}
  void frames(size_t sample, const at::Tensor& frames) override;
  void finished(size_t sample) override;

 private:
  const JobStore& store_;
  const Job& job_;
  VideoFiles files_;
  int64_t num_frames_;
  int64_t num_steps_;
  int64_t preview_;
  Watcher watcher_;
  int64_t done_ = 0;                  // frames
  at::Tensor thumbnail_;              // [h, w, 3] uint8
  std::vector<at::Tensor> pictures_;  // of the sheet, [h, w, 3] uint8
};

// Removes what an attempt of a job has written, and the job's folder if nothing else is in it.
void remove_files(const JobStore& store, const Job& job);
// Bytes that an attempt of a job has written.
int64_t bytes_of_files(const JobStore& store, const Job& job);

}  // namespace ospnext
