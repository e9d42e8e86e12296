// The reward `world`: whether a clip of the procedural world shows what its caption asks for.
#include <algorithm>

#include "data/tiny_world/captions.h"
#include "data/tiny_world/clip_measurement.h"
#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/score_each.h"

namespace ospnext {
namespace {

constexpr int64_t kFewestFrames = 5;

double share_right(const AttributeMatch& match, bool AttributeMatch::Object::*attribute) {
  const auto right = std::ranges::count_if(
      match.objects, [&](const AttributeMatch::Object& object) { return object.*attribute; });
  return static_cast<double>(right) / static_cast<double>(match.objects.size());
}

VideoScore judge(const at::Tensor& video, const std::string& prompt) {  // video [3, F, H, W]
  if (video.size(1) < kFewestFrames) {
    return {{}, "found " + std::to_string(video.size(1)) + " frames, expected five or more"};
  }
  ClipSpec asked;
  try {
    asked = clip_of_caption(prompt);
  } catch (const InputError& error) {
    return {{}, error.what()};
  }
  const auto objects = static_cast<int64_t>(asked.objects.size());
  const AttributeMatch match = compare(asked, measure_pixels(video, objects));
  using Object = AttributeMatch::Object;
  VideoScore score{{{"background", (match.background ? 0.5 : 0) + (match.pattern ? 0.5 : 0)},
                    {"colour", share_right(match, &Object::colour)},
                    {"size", share_right(match, &Object::size)},
                    {"shape", share_right(match, &Object::shape)},
                    {"motion", share_right(match, &Object::motion)}},
                   ""};
  double sum = 0;
  for (const auto& [name, number] : score.parts) {
    sum += number;
  }
  const auto count = static_cast<double>(score.parts.size());
  score.parts["total"] = sum / count;
  score.parts["all_five"] = sum == count ? 1 : 0;
  return score;
}

class WorldReward final : public Reward {
  std::vector<VideoScore> score_videos(const at::Tensor& videos,
                                       const std::vector<std::string>& prompts,
                                       const CancellationToken& cancel) const override {
    return score_each(videos.size(0), cancel,
                      [&](int64_t i) { return judge(videos[i], prompts[static_cast<size_t>(i)]); });
  }
};

}  // namespace

std::unique_ptr<Reward> make_world_reward() {
  return std::make_unique<WorldReward>();
}

}  // namespace ospnext
