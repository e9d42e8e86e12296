#include "engine/generate_config.h"

#include <limits>

#include "core/error.h"
#include "core/number_check.h"
#include "engine/prompts.h"
#include "io/output_file.h"
#include "io/video.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostVideos = 10000;

}  // namespace

const std::string& output_help() {
  static const std::string text = "video to write: " + video_endings() +
                                  ", or PNG frames by a pattern such as %04d.png; with several "
                                  "videos -0, -1, ... stands before "
                                  "the extension";
  return text;
}

void GenerateConfig::check() const {
  if (!prompts.empty() && !prompt.empty()) {
    throw InputError("`prompt` and `prompts`: found both, expected one of them");
  }
  check_range<int64_t>("`seed_step`", seed_step, 0, kMostVideos);
  check_range<int64_t>("`num_videos`", num_videos, 1, kMostVideos);
  check_range<int64_t>("`preview`", preview, 0, 10000);
  check_range<int64_t>("`initial_noise_index`", initial_noise_index, -1, kMostVideos);
  world.check();
  if (skip_existing && !(save_latent.empty() && save_video_tensor.empty())) {
    throw InputError(
        "`skip_existing`: found `save_latent` or `save_video_tensor` with it, which need all "
        "videos; expected it alone");
  }
  check_utf8(prompt, "`prompt`");
  check_utf8(generation.negative_prompt, "`negative_prompt`");
  check_utf8(output, "`output`");
}

std::vector<VideoSample> GenerateConfig::samples() const {
  const auto texts = prompts.empty() ? std::vector{prompt} : read_prompts(prompts);
  std::vector<VideoSample> samples;
  for (const std::string& text : texts) {
    for (int64_t i = 0; i < num_videos; ++i) {
      const uint64_t grown = static_cast<uint64_t>(seed_step) * samples.size();
      samples.push_back({.prompt = text, .seed = seed + grown, .noise = {}});
    }
  }
  return samples;
}

GenerateConfig GenerateConfig::of_sample(const std::vector<VideoSample>& samples,
                                         size_t index) const {
  GenerateConfig one = *this;
  one.prompt = samples[index].prompt;
  one.prompts.clear();
  one.seed = samples[index].seed;
  one.seed_step = 1;
  one.num_videos = 1;
  one.skip_existing = false;
  one.preview = 0;
  one.save_latent.clear();
  one.save_video_tensor.clear();
  one.profile.clear();
  one.offload = false;  // the video does not depend on where weights were,
  one.mesh = {};        // nor on how many processes made it
  one.world = {};
  if (!initial_noise.empty() && samples.size() > 1) {
    one.initial_noise_index = static_cast<int64_t>(index);
  }
  one.output = sample_output(output, index, samples.size()).string();
  return one;
}

fs::path sample_output(const fs::path& output, size_t index, size_t count) {
  if (count == 1) {
    return output;
  }
  return output.parent_path() /
         (output.stem().string() + "-" + std::to_string(index) + output.extension().string());
}

fs::path sidecar_file(const fs::path& output, size_t index, size_t count) {
  std::string stem = output.stem().string();
  if (const auto pattern = frame_pattern(output)) {
    const size_t extension = output.extension().string().size();
    stem = pattern->before + pattern->after.substr(0, pattern->after.size() - extension);
    stem.erase(stem.find_last_not_of("-_.") + 1);
    stem = stem.empty() ? "video" : stem;
  }
  return sample_output(output.parent_path() / (stem + ".json"), index, count);
}

fs::path preview_file(const fs::path& output, size_t index, size_t count, int64_t done) {
  const fs::path sidecar = sidecar_file(output, index, count);
  std::string number = std::to_string(done);
  number.insert(0, number.size() < 4 ? 4 - number.size() : 0, '0');
  return sidecar.parent_path() / (sidecar.stem().string() + "-preview-" + number + ".png");
}

}  // namespace ospnext
