#include "rl/rewards/reward.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/torch/shape_check.h"
#include "io/weight_stream.h"

namespace ospnext {

std::vector<VideoScore> Reward::score(const at::Tensor& videos,
                                      const std::vector<std::string>& prompts,
                                      const CancellationToken& cancel) const {
  CHECK_SHAPE(videos, static_cast<int64_t>(prompts.size()), 3, -1, -1, -1);
  const at::NoGradGuard no_grad;
  const at::Tensor pixels = videos.to(at::kCPU, at::kFloat).contiguous();
  std::vector<bool> finite;
  for (const at::Tensor& video : pixels.unbind()) {
    finite.push_back(all_finite(video));
  }
  const bool all = std::ranges::find(finite, false) == finite.end();
  const at::Tensor clean = all ? pixels : pixels.nan_to_num();
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
    if (!finite[i]) {
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
