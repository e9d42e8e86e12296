#include "rl/rewards/reward.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/error.h"
#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

// Whether each video [B, 3, F, H, W], contiguous float32 on the CPU, has no NaN and no infinity.
std::vector<uint8_t> are_finite(const at::Tensor& videos) {
  std::vector<uint8_t> finite(static_cast<size_t>(videos.size(0)));
  const int64_t numbers = videos.size(0) > 0 ? videos[0].numel() : 0;
  const float* first = videos.const_data_ptr<float>();
  at::parallel_for(0, videos.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      bool all = true;
      for (const float* x = first + i * numbers; x < first + (i + 1) * numbers; ++x) {
        all &=
            *x - *x == 0;  // NaN for both; without a branch, so that compilers make vectors of it
      }
      finite[static_cast<size_t>(i)] = all;
    }
  });
  return finite;
}

}  // namespace

std::vector<VideoScore> Reward::score(const at::Tensor& videos,
                                      const std::vector<std::string>& prompts,
                                      const CancellationToken& cancel) const {
  CHECK_SHAPE(videos, static_cast<int64_t>(prompts.size()), 3, -1, -1, -1);
  const at::NoGradGuard no_grad;
  const at::Tensor pixels = videos.to(at::kCPU, at::kFloat).contiguous();
  const std::vector<uint8_t> finite = are_finite(pixels);
  const at::Tensor clean =
      std::ranges::find(finite, 0) == finite.end() ? pixels : pixels.nan_to_num();
  std::vector<VideoScore> scores;
  try {
    scores = score_videos(clean, prompts, cancel);
  } catch (const InputError& error) {
    scores.assign(prompts.size(), {{}, error.what()});
  } catch (const RunError& error) {
    scores.assign(prompts.size(), {{}, error.what()});
  }
  TORCH_CHECK(scores.size() == prompts.size(), "a reward gave ", scores.size(), " scores for ",
              prompts.size(), " videos");
  for (size_t i = 0; i < scores.size(); ++i) {
    VideoScore& score = scores[i];
    if (finite[i] == 0) {
      score = {{}, "found pixels that are NaN or infinite"};
    }
    for (const auto& [name, number] : score.parts) {
      if (!std::isfinite(number)) {
        score = {{}, name + ": found " + std::to_string(number) + ", expected a number"};
        break;
      }
    }
  }
  return scores;
}

}  // namespace ospnext
