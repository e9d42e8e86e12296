// The reward of the procedural world on rendered clips.
#include <gtest/gtest.h>

#include "data/tiny_world/captions.h"
#include "rl/rewards/reward_kinds.h"

namespace ospnext {
namespace {

struct Rendered {
  std::vector<ClipSpec> clips;
  std::vector<std::string> captions;
  at::Tensor videos;  // [B, 3, T, H, W] in [0, 1]
};

Rendered rendered(int64_t count, double two_objects) {
  Rendered result;
  for (int64_t i = 0; i < count; ++i) {
    result.clips.push_back(
        sample_clip(11, static_cast<uint64_t>(i), ClipSplit::kSeen, {.two_objects = two_objects}));
    result.captions.push_back(
        caption(result.clips.back(), i % num_caption_forms(result.clips.back().objects.size())));
  }
  result.videos = (render_clips(result.clips) + 1) / 2;
  return result;
}

TEST(WorldReward, IsOneForRenderedClipsAndLessForOtherCaptions) {
  for (const double two_objects : {0.0, 1.0}) {
    Rendered clips = rendered(3, two_objects);
    const auto reward = make_world_reward();
    double right = 0, wrong = 0;
    for (const VideoScore& score : reward->score(clips.videos, clips.captions, {})) {
      ASSERT_EQ(score.error, "");
      right += score.parts.at("total") / 3;
      EXPECT_EQ(score.parts.at("all_five") == 1, score.parts.at("total") == 1);
      EXPECT_EQ(score.parts.size(), 7U);
    }
    std::rotate(clips.captions.begin(), clips.captions.begin() + 1, clips.captions.end());
    for (const VideoScore& score : reward->score(clips.videos, clips.captions, {})) {
      wrong += score.parts.at("total") / 3;
    }
    EXPECT_GT(right, 0.95);
    EXPECT_LT(wrong, 0.6);
  }
}

TEST(WorldReward, GivesAnErrorForWhatIsNoClipOfTheWorld) {
  const Rendered clips = rendered(2, 0);
  const auto scores =
      make_world_reward()->score(clips.videos, {clips.captions[0], "a heron takes off"}, {});
  EXPECT_EQ(scores[0].error, "");
  EXPECT_TRUE(scores[1].error.starts_with("the caption \"a heron takes off\": found 0 sizes"));
  const auto few = make_world_reward()->score(clips.videos.narrow(2, 0, 4), clips.captions, {});
  EXPECT_EQ(few[0].error, "found 4 frames, expected five or more");
}

}  // namespace
}  // namespace ospnext
