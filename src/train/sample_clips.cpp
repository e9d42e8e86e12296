#include "train/sample_clips.h"

#include <memory>

#include "core/error.h"
#include "core/fields.h"
#include "core/log.h"
#include "core/number_check.h"
#include "engine/generate_config.h"
#include "io/video.h"
#include "train/training_checkpoint.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// Writes the clips of one step, of which it gets each from its first to its last frames.
class SampleFiles final : public VideoReceiver {
 public:
  SampleFiles(fs::path folder, int64_t step, const GenerationConfig& generation,
              const std::vector<VideoSample>& samples, const std::string& format)
      : folder_(std::move(folder)),
        step_(step),
        generation_(generation),
        samples_(samples),
        format_(format) {}

  void latent(size_t, const at::Tensor&) override { writer_.reset(); }
  void frames(size_t sample, const at::Tensor& frames) override {
    attempt([&] {
      if (!writer_) {
        fs::create_directories(folder_);
        const std::string name = std::to_string(sample + 1) + "." + format_;
        writer_ = open_video(folder_ / name, video_format(samples_[sample]));
      }
      writer_->write(video_to_pixels(frames));
    });
  }
  void finished(size_t) override {
    attempt([&] {
      writer_->finish();
      writer_->commit();
    });
    writer_.reset();
  }

 private:
  // After a failure nothing more is written.
  template <class Work>
  void attempt(const Work& work) {
    if (failed_) {
      return;
    }
    try {
      work();
    } catch (const std::runtime_error& error) {
      failed_ = true;
      warn(std::string("no sample clips: ") + error.what());
    }
  }

  VideoFormat video_format(const VideoSample& sample) const {
    nlohmann::json comment = fields_to_json(generation_);
    comment.update({{"prompt", sample.prompt}, {"seed", sample.seed}, {"training_step", step_}});
    return {.width = generation_.width,
            .height = generation_.height,
            .fps = generation_.fps,
            .comment = comment.dump()};
  }

  fs::path folder_;
  int64_t step_;
  const GenerationConfig& generation_;
  const std::vector<VideoSample>& samples_;
  std::string format_;
  std::unique_ptr<VideoWriter> writer_;
  bool failed_ = false;
};

// The samples of `generate --prompts FILE`.
std::vector<VideoSample> samples_of(const std::string& file) {
  GenerateConfig request;
  request.prompts = file;
  try {
    return request.samples();
  } catch (const InputError& error) {
    throw InputError(std::string("`sample_prompts`: ") + error.what());
  }
}

void check_samples_folder(const fs::path& folder, const GenerationConfig& generation,
                          const std::string& format) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw RunError(folder.string() + ": cannot be made: " + error.message());
  }
  check_video_output(folder / ("1." + format),
                     {.width = generation.width,
                      .height = generation.height,
                      .fps = generation.fps,
                      .comment = {}},
                     "`sample_format`");
}

}  // namespace

void SampleFields::check() const {
  check_range("`sample_interval`", sample_interval, int64_t{0}, int64_t{1'000'000'000});
  if (sample_prompts.empty()) {
    throw InputError("`sample_prompts`: found nothing, expected a file of prompts");
  }
}

SampleClips::SampleClips(const SampleFields& fields, const ModelSource& source,
                         const ComputeOptions& compute, WorkRanks ranks,
                         GenerationConfig generation, fs::path folder,
                         const CancellationToken& cancel)
    : fields_(fields),
      source_(source),
      compute_(compute),
      ranks_(std::move(ranks)),
      generation_(std::move(generation)),
      folder_(std::move(folder)),
      cancel_(cancel),
      samples_(samples_of(fields.sample_prompts)) {
  generation_.cuda_graph = false;  // a recording for a few clips does not pay
  generation_.check(source.vae_config());
  if (ranks_.leads()) {
    check_samples_folder(folder_, generation_, fields.sample_format);
  }
}

fs::path SampleClips::file(int64_t step, size_t clip) const {
  return folder_ / name_of_step(step) / (std::to_string(clip + 1) + "." + fields_.sample_format);
}

void SampleClips::make(int64_t step) const {
  VideoModel model(source_, compute_, ranks_);
  SampleFiles files(folder_ / name_of_step(step), step, generation_, samples_,
                    fields_.sample_format);
  Progress silent(nullptr, false);
  make_videos(model, generation_, samples_, files, {silent, cancel_});
}

}  // namespace ospnext
