// Tests sampling and rendering of procedural clips, and their captions.
#include "data/tiny_world/procedural_clips.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "data/tiny_world/captions.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

constexpr uint64_t kSeed = 11;

std::vector<ClipSpec> sample(ClipSplit split, uint64_t count, double two_objects = 0.5) {
  ClipOptions options;
  options.two_objects = two_objects;
  std::vector<ClipSpec> clips;
  for (uint64_t i = 0; i < count; ++i) {
    options.height = i % 3 == 0 ? 112 : 128;
    options.width = i % 3 == 0 ? 144 : 128;
    clips.push_back(sample_clip(kSeed, i, split, options));
  }
  return clips;
}

bool held_out(const ObjectSpec& object) {
  return is_held_out(object.shape, object.colour) || is_held_out(object.shape, object.motion);
}

TEST(ProceduralClips, TrainedAndSeenClipsNeverUseAHeldOutPair) {
  for (const ClipSplit split : {ClipSplit::kTrain, ClipSplit::kSeen}) {
    for (const ClipSpec& clip : sample(split, 500)) {
      EXPECT_TRUE(std::ranges::none_of(clip.objects, held_out));
    }
  }
}

TEST(ProceduralClips, ShapesAreTrainedInTheSharesAskedForAndEvaluatedEqually) {
  ClipOptions options;
  options.shape_shares = {1, 1, 1, 1, 4, 1};
  const auto crosses = [&](ClipSplit split) {
    double count = 0;
    for (uint64_t i = 0; i < 2000; ++i) {
      count +=
          sample_clip(kSeed, i, split, options).objects[0].shape == ObjectShape::kCross ? 1 : 0;
    }
    return count;
  };
  // The share of (colour, motion) pairs that are trained, for a cross; kAll is the sum over all
  // shapes.
  constexpr double kTrained = 6.0 / 7 * 8 / 9, kAll = 4.175;
  EXPECT_NEAR(crosses(ClipSplit::kTrain), 2000 * 4 * kTrained / (kAll + 3 * kTrained), 70);
  EXPECT_NEAR(crosses(ClipSplit::kSeen), 2000 * kTrained / kAll, 55);
}

TEST(ProceduralClips, HeldOutClipsAlwaysUseAHeldOutPair) {
  for (const ClipSpec& clip : sample(ClipSplit::kHeldOut, 500)) {
    EXPECT_TRUE(std::ranges::any_of(clip.objects, held_out));
  }
}

TEST(ProceduralClips, EveryAttributeIsHeldOutSomewhereAndTrainedElsewhere) {
  for (size_t shape = 0; shape < kNumShapes; ++shape) {
    const auto is_shape = [&](const auto& pair) {
      return pair.first == static_cast<ObjectShape>(shape);
    };
    EXPECT_GE(std::ranges::count_if(kHeldOutColours, is_shape), 1);
    EXPECT_GE(std::ranges::count_if(kHeldOutMotions, is_shape), 1);
    EXPECT_LE(std::ranges::count_if(kHeldOutColours, is_shape), 2);
    EXPECT_LE(std::ranges::count_if(kHeldOutMotions, is_shape), 2);
  }
  for (size_t colour = 0; colour < kNumColours; ++colour) {
    EXPECT_EQ(std::ranges::count(kHeldOutColours, static_cast<ObjectColour>(colour),
                                 [](const auto& pair) { return pair.second; }),
              1);
  }
  for (size_t motion = 0; motion < kNumMotions; ++motion) {
    EXPECT_EQ(std::ranges::count(kHeldOutMotions, static_cast<ObjectMotion>(motion),
                                 [](const auto& pair) { return pair.second; }),
              1);
  }
}

TEST(ProceduralClips, TheSameArgumentsGiveTheSameClipAndSplitsDiffer) {
  const ClipOptions options;
  const auto first = caption(sample_clip(3, 5, ClipSplit::kTrain, options), 0);
  EXPECT_EQ(first, caption(sample_clip(3, 5, ClipSplit::kTrain, options), 0));
  int64_t same = 0;
  for (uint64_t i = 0; i < 50; ++i) {
    const ClipSpec train = sample_clip(3, i, ClipSplit::kTrain, options);
    const ClipSpec seen = sample_clip(3, i, ClipSplit::kSeen, options);
    same += train.objects[0].x0 == seen.objects[0].x0 ? 1 : 0;
  }
  EXPECT_EQ(same, 0);
}

TEST(ProceduralClips, ObjectsStayInsideTheFrame) {
  for (const ClipSpec& clip : sample(ClipSplit::kHeldOut, 500)) {
    const double shorter = static_cast<double>(std::min(clip.height, clip.width));
    for (const ObjectSpec& object : clip.objects) {
      for (int frame = 0; frame < 33; ++frame) {
        const ObjectState state = object_state(object, frame / 32.0);
        const double reach = state.radius * circumradius(object.shape) - 1e-9;
        EXPECT_GE(state.x, reach);
        EXPECT_GE(state.y, reach);
        EXPECT_LE(state.x, static_cast<double>(clip.width) / shorter - reach);
        EXPECT_LE(state.y, static_cast<double>(clip.height) / shorter - reach);
      }
    }
  }
}

TEST(ProceduralClips, TwoObjectsDifferInColourAndKeepApart) {
  for (const ClipSpec& clip : sample(ClipSplit::kTrain, 600, 1.0)) {
    EXPECT_NE(clip.objects[0].colour, clip.objects[1].colour);
    for (int frame = 0; frame < 33; ++frame) {
      const ObjectState a = object_state(clip.objects[0], frame / 32.0);
      const ObjectState b = object_state(clip.objects[1], frame / 32.0);
      EXPECT_GT(std::hypot(a.x - b.x, a.y - b.y), a.radius + b.radius);
    }
  }
}

TEST(ProceduralClips, RenderedClipsHaveTheRightShapeRangeAndMotion) {
  ClipOptions options;
  options.height = 112;
  options.width = 144;
  const ClipSpec clip = sample_clip(kSeed, 1, ClipSplit::kSeen, options);
  const at::Tensor video = render_clips({clip, clip});
  EXPECT_EQ(video.sizes(), at::IntArrayRef({2, 3, 33, 112, 144}));
  EXPECT_EQ(video.scalar_type(), at::kFloat);
  EXPECT_GE(video.min().item<float>(), -1.0F);
  EXPECT_LE(video.max().item<float>(), 1.0F);
  EXPECT_TRUE(at::equal(video[0], video[1]));
  EXPECT_FALSE(at::equal(video.select(2, 0), video.select(2, 32)));
}

class RenderedClips : public OnDevice {};
INSTANTIATE_ON_DEVICES(RenderedClips);

// The clips are rendered together on a GPU and one by one on the CPU.
TEST_P(RenderedClips, DoNotDependOnTheOthersOfTheirBatch) {
  std::vector<ClipSpec> clips;
  ClipOptions options;
  options.two_objects = 0.5;
  options.num_frames = 3;
  for (uint64_t i = 0; i < 8; ++i) {
    clips.push_back(sample_clip(kSeed, i, ClipSplit::kTrain, options));
  }
  const at::Tensor together = render_clips(clips, device()).cpu();
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(at::allclose(together[i], render_clips({clips[i]})[0], 0, 1e-4));
  }
}

TEST(ProceduralClips, AShortClipIsTheBeginningOfTheLongOne) {
  ClipOptions options;
  const at::Tensor whole = render_clips({sample_clip(kSeed, 2, ClipSplit::kTrain, options)});
  options.num_frames = 9;
  const at::Tensor start = render_clips({sample_clip(kSeed, 2, ClipSplit::kTrain, options)});
  EXPECT_TRUE(at::allclose(whole.narrow(2, 0, 9), start, 1e-5, 1e-5));
}

TEST(ProceduralClips, RenderedObjectsHaveTheAreaOfTheirDisk) {
  for (size_t shape = 0; shape < kNumShapes; ++shape) {
    ClipSpec clip;
    clip.num_frames = 1;
    clip.background = BackgroundColour::kBlack;
    ObjectSpec object;
    object.shape = static_cast<ObjectShape>(shape);
    object.colour = ObjectColour::kGreen;
    object.motion = ObjectMotion::kSpinning;
    object.radius = 0.2;
    clip.objects = {object};
    const at::Tensor green = render_clips({clip})[0][1][0];
    const double area = (green > -0.3).sum().item<double>();
    const double hole = object.shape == ObjectShape::kRing ? 0.25 : 0.0;
    const double expected = M_PI * std::pow(0.2 * 128, 2) * (1 - hole);
    EXPECT_NEAR(area / expected, 1.0, 0.05) << word(object.shape);
  }
}

TEST(Captions, EveryFormStatesEveryAttribute) {
  for (const ClipSpec& clip : sample(ClipSplit::kHeldOut, 60)) {
    for (int64_t form = 0; form < num_caption_forms(clip.objects.size()); ++form) {
      const std::string text = caption(clip, form);
      const auto states = [&](std::string_view part) {
        return text.find(part.substr(1)) !=
               std::string::npos;  // without the first letter, which may be a capital
      };
      EXPECT_TRUE(states(word(clip.background)) && states(word(clip.pattern))) << text;
      for (const ObjectSpec& object : clip.objects) {
        EXPECT_TRUE(states(word(object.shape)) && states(word(object.colour)) &&
                    states(word(object.size)))
            << text;
        EXPECT_TRUE(states(word(object.motion)) || states(verb(object.motion))) << text;
      }
    }
  }
}

TEST(Captions, FormsOfOneClipAllDiffer) {
  for (const double two_objects : {0.0, 1.0}) {
    const ClipSpec clip = sample(ClipSplit::kTrain, 1, two_objects)[0];
    std::set<std::string> texts;
    const int64_t forms = num_caption_forms(clip.objects.size());
    for (int64_t form = 0; form < forms; ++form) {
      texts.insert(caption(clip, form));
    }
    EXPECT_EQ(static_cast<int64_t>(texts.size()), forms);
    EXPECT_THROW(caption(clip, forms), c10::Error);
  }
}

TEST(Captions, ReadAsSentences) {
  ClipSpec clip;
  clip.background = BackgroundColour::kNavy;
  clip.pattern = BackgroundPattern::kStriped;
  ObjectSpec object;
  object.colour = ObjectColour::kOrange;
  object.shape = ObjectShape::kStar;
  clip.objects = {object};
  EXPECT_EQ(caption(clip, 0), "a medium orange star spinning on a striped navy background");
  EXPECT_EQ(caption(clip, 10),
            "An orange star, medium in size, spins on a striped navy background.");
  EXPECT_EQ(caption(clip, 13), "A medium orange star spins. The background is striped and navy.");
}

}  // namespace
}  // namespace ospnext
