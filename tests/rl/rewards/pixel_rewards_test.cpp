// Motion, exposure and sharpness against numpy (tools/make_rl_fixtures.py).
#include <gtest/gtest.h>

#include "rl/rewards/reward_kinds.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

constexpr double kFewRoundings = 2e-6;  // of float32 in sums of hundreds of numbers from 0 to 1

std::unique_ptr<Reward> made(const std::string& name) {
  return name == "motion"     ? make_motion_reward()
         : name == "exposure" ? make_exposure_reward()
                              : make_sharpness_reward();
}

TEST(PixelRewards, AreThoseOfNumpy) {
  const Fixture fixture("rl/pixels.safetensors");
  const at::Tensor& video = fixture.at("video");
  size_t compared = 0;
  for (const auto& [key, expected] : fixture.tensors) {
    if (key == "video") {
      continue;
    }
    const std::string name = key.substr(0, key.find('.')), part = key.substr(name.size() + 1);
    const auto scores = made(name)->score(video, {"a", "b", "c"}, {});
    for (size_t i = 0; i < 3; ++i) {
      ASSERT_EQ(scores[i].error, "");
      EXPECT_NEAR(scores[i].parts.at(part), expected[static_cast<int64_t>(i)].item<double>(),
                  kFewRoundings)
          << key << " " << i;
    }
    ++compared;
  }
  EXPECT_EQ(compared, 7U);
}

TEST(PixelRewards, OrderWhatTheyMeasure) {
  torch::manual_seed(1);
  const at::Tensor noise = at::rand({1, 3, 6, 16, 16});
  const at::Tensor still = noise.narrow(2, 0, 1).expand({1, 3, 6, 16, 16});
  const auto total = [](const std::string& name, const at::Tensor& video) {
    return made(name)->score(video, {""}, {})[0].parts.at("total");
  };
  EXPECT_EQ(total("motion", still), 0);
  EXPECT_GT(total("motion", noise), 0.1);
  EXPECT_GT(total("sharpness", noise), 1.5 * total("sharpness", at::avg_pool3d(noise, {1, 2, 2})));
  EXPECT_NEAR(total("exposure", at::zeros({1, 3, 2, 4, 4})), 0, 1e-12);
  EXPECT_NEAR(total("exposure", at::full({1, 3, 2, 4, 4}, 0.5)), 1, 1e-12);
}

TEST(PixelRewards, OfAVideoDoNotDependOnItsBatch) {
  torch::manual_seed(1);
  constexpr int64_t kVideos = 9;  // more than threads, so that some take several
  at::Tensor videos = at::rand({kVideos, 3, 5, 40, 40});
  videos[4][0][0][0][0] = INFINITY;
  for (const char* name : {"motion", "exposure", "sharpness"}) {
    const auto scores = made(name)->score(videos, std::vector<std::string>(kVideos), {});
    for (int64_t i = 0; i < kVideos; ++i) {
      const VideoScore& score = scores[static_cast<size_t>(i)];
      const VideoScore alone = made(name)->score(videos.narrow(0, i, 1), {""}, {})[0];
      EXPECT_EQ(score.error, i == 4 ? "found pixels that are NaN or infinite" : "") << name << i;
      EXPECT_EQ(score.parts, alone.parts) << name << i;
      EXPECT_EQ(score.parts.empty(), i == 4) << name << i;
    }
  }
}

TEST(PixelRewards, GiveErrorsAndNoNumbersForWhatTheyCannotMeasure) {
  torch::manual_seed(1);
  const auto error = [](const std::string& name, const at::Tensor& video) {
    const auto scores = made(name)->score(video, {""}, {});
    EXPECT_TRUE(scores[0].parts.empty());
    return scores[0].error;
  };
  EXPECT_EQ(error("motion", at::rand({1, 3, 1, 8, 8})), "found one frame, expected two or more");
  EXPECT_EQ(error("sharpness", at::rand({1, 3, 2, 2, 8})),
            "found frames of 2 x 8 pixels, expected at least 3 x 3");
  for (const char* name : {"motion", "exposure", "sharpness"}) {
    EXPECT_EQ(error(name, at::full({1, 3, 2, 8, 8}, NAN)), "found pixels that are NaN or infinite");
  }
  EXPECT_THROW(made("motion")->score(at::rand({2, 3, 2, 8, 8}), {""}, {}), c10::Error);
}

}  // namespace
}  // namespace ospnext
