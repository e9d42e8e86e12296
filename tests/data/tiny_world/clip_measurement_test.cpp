// Compares the measurement of rendered clips with the specifications of these clips.
#include "data/tiny_world/clip_measurement.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/torch/random.h"
#include "data/tiny_world/captions.h"

namespace ospnext {
namespace {

// Clips per case: OSPNEXT_MEASURED_CLIPS if it is set, otherwise a few.
int64_t num_clips() {
  const char* wanted = std::getenv("OSPNEXT_MEASURED_CLIPS");
  return wanted == nullptr ? 32 : std::atoll(wanted);
}

ClipSpec sample(ClipSplit split, int64_t index, double two_objects) {
  constexpr std::array<std::array<int64_t, 2>, 4> kSizes{
      {{128, 128}, {112, 144}, {144, 112}, {104, 152}}};
  ClipOptions options;
  options.height = kSizes[index % 4][0];
  options.width = kSizes[index % 4][1];
  options.two_objects = two_objects;
  return sample_clip(/*seed=*/77, static_cast<uint64_t>(index), split, options);
}

// Adds errors such as a decoder makes: a blur (standard deviation 2 pixels), noise (0.03 of the
// range) and a shift of each colour channel (0.025 of the range). clip [3, T, H, W] -> same
at::Tensor degraded(const at::Tensor& clip, int64_t index) {
  constexpr int64_t kReach = 6;
  constexpr double kDeviation = 2;
  at::Generator generator = seeded_generator(5, "degraded", static_cast<uint64_t>(index));
  at::Tensor kernel = at::exp(at::arange(-kReach, kReach + 1).to(at::kFloat).square() /
                              (-2 * kDeviation * kDeviation));
  kernel /= kernel.sum();
  at::Tensor frames = clip.flatten(0, 1).unsqueeze(1);  // [3 * T, 1, H, W]
  frames = at::replication_pad2d(frames, {kReach, kReach, kReach, kReach});
  frames = at::conv2d(frames, kernel.view({1, 1, 1, -1}));
  frames = at::conv2d(frames, kernel.view({1, 1, -1, 1})).view(clip.sizes());
  const at::Tensor noise = at::randn(clip.sizes(), generator, at::kFloat);
  const at::Tensor shift = at::randn({3, 1, 1, 1}, generator, at::kFloat);
  return (frames + 0.06 * noise + 0.05 * shift).clamp(-1, 1);
}

// Shares of attributes that were measured correctly.
struct Accuracy {
  double background = 0, pattern = 0, colour = 0, shape = 0, size = 0, motion = 0, all = 0;

  double least() const { return std::min({background, pattern, colour, shape, size, motion}); }
};

// Compares clip i with measurement i + offset (modulo the number of clips).
Accuracy accuracy(const std::vector<ClipSpec>& clips, const std::vector<MeasuredClip>& measured,
                  size_t offset = 0) {
  Accuracy shares;
  for (size_t i = 0; i < clips.size(); ++i) {
    const auto match = compare(clips[i], measured[(i + offset) % clips.size()]);
    const double clip_share = 1.0 / static_cast<double>(clips.size());
    const double object_share = clip_share / static_cast<double>(match.objects.size());
    bool all = match.background && match.pattern;
    shares.background += match.background ? clip_share : 0;
    shares.pattern += match.pattern ? clip_share : 0;
    for (const auto& object : match.objects) {
      shares.colour += object.colour ? object_share : 0;
      shares.shape += object.shape ? object_share : 0;
      shares.size += object.size ? object_share : 0;
      shares.motion += object.motion ? object_share : 0;
      all = all && object.colour && object.shape && object.size && object.motion;
    }
    shares.all += all ? clip_share : 0;
  }
  return shares;
}

void print(const char* name, const Accuracy& shares) {
  std::printf(
      "%-28s background %5.1f  pattern %5.1f  colour %5.1f  shape %5.1f  size %5.1f  "
      "motion %5.1f  all %5.1f %%\n",
      name, 100 * shares.background, 100 * shares.pattern, 100 * shares.colour, 100 * shares.shape,
      100 * shares.size, 100 * shares.motion, 100 * shares.all);
}

struct Case {
  const char* name;
  ClipSplit split;
  double two_objects;
  bool degraded;
  double least;  // smallest share allowed for each attribute
};

class ClipMeasurement : public ::testing::TestWithParam<Case> {
 protected:
  // One thread: for operations this small, synchronising threads costs more than it saves.
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(num_threads_); }

 private:
  int num_threads_ = at::get_num_threads();
};

TEST_P(ClipMeasurement, ReadsEveryAttributeOffRenderedClips) {
  const Case& wanted = GetParam();
  const int64_t count = num_clips();
  std::vector<ClipSpec> clips;
  std::vector<MeasuredClip> measured;
  for (int64_t i = 0; i < count; ++i) {
    clips.push_back(sample(wanted.split, i, wanted.two_objects));
    const at::Tensor clip = render_clips({clips.back()})[0];
    measured.push_back(measure_clip(wanted.degraded ? degraded(clip, i) : clip,
                                    static_cast<int64_t>(clips.back().objects.size())));
  }
  const Accuracy shares = accuracy(clips, measured);
  print(wanted.name, shares);
  EXPECT_GE(shares.least(), wanted.least);

  // Planted mistake: compare with the measurements of other clips.
  const Accuracy shuffled = accuracy(clips, measured, 1);
  print("  measured on other clips", shuffled);
  EXPECT_LT(shuffled.background, 0.5);
  EXPECT_LT(shuffled.shape, 0.5);
  EXPECT_LT(shuffled.motion, 0.5);
  EXPECT_LT(shuffled.all, 0.1);
}

INSTANTIATE_TEST_SUITE_P(Clips, ClipMeasurement,
                         ::testing::Values(Case{"seen", ClipSplit::kSeen, 0, false, 0.98},
                                           Case{"held_out", ClipSplit::kHeldOut, 0, false, 0.98},
                                           Case{"degraded", ClipSplit::kHeldOut, 0, true, 0.95},
                                           Case{"two_objects", ClipSplit::kHeldOut, 1, false, 0.98},
                                           Case{"two_objects_degraded", ClipSplit::kSeen, 1, true,
                                                0.95}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ClipMeasurementOf, AnEmptyClipFindsTheBackgroundAndNoObject) {
  ClipSpec clip;
  clip.background = BackgroundColour::kTeal;
  clip.pattern = BackgroundPattern::kChecked;
  const MeasuredClip measured = measure_clip(render_clips({clip})[0], 2);
  EXPECT_EQ(measured.background, BackgroundColour::kTeal);
  EXPECT_EQ(measured.pattern, BackgroundPattern::kChecked);
  ASSERT_EQ(measured.objects.size(), 2U);
  EXPECT_FALSE(measured.objects[0].colour.has_value());
  EXPECT_FALSE(measured.objects[0].shape.has_value());
  EXPECT_FALSE(measured.objects[1].motion.has_value());
}

TEST(ClipMeasurementOf, AnObjectAtRestFindsNoMotion) {
  ClipSpec clip;
  clip.objects.resize(1);  // a spinning object with 0 turns
  const MeasuredClip measured = measure_clip(render_clips({clip})[0], 1);
  EXPECT_EQ(measured.objects[0].shape, ObjectShape::kCircle);
  EXPECT_FALSE(measured.objects[0].motion.has_value());
}

TEST(ClipMeasurementOf, NoiseOrAVanishedObjectDoesNotThrow) {
  at::Generator generator = seeded_generator(1, "noise");
  EXPECT_NO_THROW(measure_clip(at::randn({3, 9, 64, 80}, generator, at::kFloat), 2));
  EXPECT_NO_THROW(measure_clip(at::ones({3, 9, 64, 80}), 2));
  EXPECT_NO_THROW(measure_clip(at::randn({3, 5, 1, 40}, generator, at::kFloat), 1));
  EXPECT_NO_THROW(measure_clip(at::randn({3, 5, 1, 1}, generator, at::kFloat), 2));
  at::Tensor clip = render_clips({sample(ClipSplit::kSeen, 0, 0)})[0];
  clip.narrow(1, 1, clip.size(1) - 1).fill_(-1);
  EXPECT_FALSE(measure_clip(clip, 1).objects[0].motion.has_value());
}

TEST(ClipMeasurementOf, AnObjectThatLeavesALineOfTheBackgroundDoesNotThrow) {
  for (int64_t right = 96; right < 120; ++right) {
    at::Tensor clip = at::full({3, 5, 128, 128}, -0.9F);
    clip.slice(2, 8, 120).slice(3, 8, right).select(0, 0).fill_(0.8F);  // a red rectangle
    EXPECT_NO_THROW(measure_clip(clip, 1)) << "columns 8 to " << right;
  }
}

TEST(ClipMeasurementOf, BlocksOfAnySizeDoNotThrow) {
  for (uint64_t i = 0; i < 300; ++i) {
    at::Generator generator = seeded_generator(1, "blocks", i);
    const at::Tensor sizes = at::randint(1, 66, {4}, generator, at::kLong);
    const auto size = [&](int64_t k) { return sizes[k].item<int64_t>(); };
    const at::Tensor blocks =
        at::rand({1, 3, 5, size(0), size(1)}, generator, at::kFloat).mul(2).sub(1);
    const at::Tensor clip = at::upsample_nearest3d(blocks, {5, size(2), size(3)})[0];
    EXPECT_NO_THROW(measure_clip(i % 3 == 0 ? clip.sign() : clip, 1 + i % 2))
        << size(0) << " x " << size(1) << " blocks, " << size(2) << " x " << size(3) << " pixels";
  }
}

TEST(ClipMeasurementOf, MisshapenFramesThrow) {
  EXPECT_THROW(measure_clip(at::zeros({3, 4, 64, 64}), 1), c10::Error);
  EXPECT_THROW(measure_clip(at::zeros({1, 9, 64, 64}), 1), c10::Error);
  EXPECT_THROW(measure_clip(at::zeros({3, 9, 64, 64}), 3), c10::Error);
}

TEST(ClipMeasurementOf, TwoObjectsAreComparedByColour) {
  const ClipSpec clip = sample(ClipSplit::kSeen, 3, 1);
  MeasuredClip measured = measure_clip(render_clips({clip})[0], 2);
  std::swap(measured.objects[0], measured.objects[1]);
  for (const auto& object : compare(clip, measured).objects) {
    EXPECT_TRUE(object.colour && object.shape && object.size && object.motion);
  }
}

}  // namespace
}  // namespace ospnext
