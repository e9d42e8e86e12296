#include "cli/generate_config.h"

#include "core/error.h"
#include "core/number_check.h"
#include "io/output_file.h"
#include "io/video.h"
#include "pipeline/prompts.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostVideos = 10000;

}  // namespace

void GenerateConfig::check() const {
  if (!prompts.empty() && !prompt.empty()) {
    throw InputError("--prompt and --prompts: found both, expected one of them");
  }
  check_range<int64_t>("--seed", seed, 0, std::numeric_limits<int64_t>::max() - kMostVideos);
  check_range<int64_t>("--num-videos", num_videos, 1, kMostVideos);
  check_utf8(prompt, "--prompt");
  check_utf8(generation.negative_prompt, "--negative-prompt");
  check_utf8(output, "--output");
}

std::vector<VideoSample> GenerateConfig::samples() const {
  const auto texts = prompts.empty() ? std::vector{prompt} : read_prompts(prompts);
  std::vector<VideoSample> samples;
  for (const std::string& text : texts) {
    for (int64_t i = 0; i < num_videos; ++i) {
      const uint64_t sample_seed = static_cast<uint64_t>(seed) + samples.size();
      samples.push_back({.prompt = text, .seed = sample_seed, .noise = {}});
    }
  }
  return samples;
}

GenerateConfig GenerateConfig::of_sample(const std::vector<VideoSample>& samples,
                                         size_t index) const {
  GenerateConfig one = *this;
  one.prompt = samples[index].prompt;
  one.prompts.clear();
  one.seed = static_cast<int64_t>(samples[index].seed);
  one.num_videos = 1;
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
  if (const size_t percent = stem.find('%'); output.extension() == ".png" && percent != stem.npos) {
    stem.erase(percent, stem.find('d', percent) + 1 - percent);
    stem.erase(stem.find_last_not_of("-_.") + 1);
    stem = stem.empty() ? "video" : stem;
  }
  return sample_output(output.parent_path() / (stem + ".json"), index, count);
}

}  // namespace ospnext
