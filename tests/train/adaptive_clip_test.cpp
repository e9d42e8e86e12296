// Adaptive clipping against torch and OSP-Next's rule (tools/make_training_fixtures.py).
#include "train/adaptive_clip.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/paths.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-12;  // of the largest value

std::vector<double> numbers(const AdaptiveClip& clip) {
  return {clip.state().largest_norm, clip.state().mean, clip.state().variance};
}

TEST(AdaptiveClip, FollowsOspNext) {
  const auto fixture = read_tensors(fixture_path("training/clip.safetensors"));
  for (const std::string name : {"small", "large", "huge", "zeros"}) {
    const at::Tensor& norms = fixture.at("norms_" + name);
    const at::Tensor& expected = fixture.at("clip_" + name);  // [n, 4]
    AdaptiveClip clip;
    std::vector<double> rows;
    for (int64_t i = 0; i < norms.size(0); ++i) {
      rows.push_back(clip.coefficient(norms[i].item<double>()));
      const std::vector<double> state = numbers(clip);
      rows.insert(rows.end(), state.begin(), state.end());
    }
    const at::Tensor found = at::tensor(rows, at::kDouble).view({-1, 4});  // [n, 4]
    for (int64_t column = 0; column < 4; ++column) {
      EXPECT_LE(relative_max(found.select(1, column), expected.select(1, column)), kTolerance)
          << name << " " << column;
    }
  }
}

TEST(AdaptiveClip, BeginsAtItsInitialNormAndWithItsDecay) {
  AdaptiveClip clip(0.5, 0.25);
  EXPECT_DOUBLE_EQ(clip.coefficient(2.0), 0.5 / (2.0 + 1e-6));
  EXPECT_EQ(numbers(clip), (std::vector<double>{0.5, 0.5, 0.0}));
  EXPECT_EQ(clip.coefficient(0.25), 1.0);
  EXPECT_EQ(numbers(clip), (std::vector<double>{0.5, 0.3125, 0.75 * 0.0625 * 0.0625}));
}

TEST(AdaptiveClip, IsNotLockedByNormsOfZero) {
  AdaptiveClip clip;
  for (int step = 0; step < 3; ++step) {
    EXPECT_EQ(clip.coefficient(0.0), 1.0);
    EXPECT_FALSE(clip.state().begun());
    EXPECT_EQ(clip.state().largest_norm, 1.0);
  }
  AdaptiveClip fresh;
  for (const double norm : {0.2, 0.0, 0.3, 0.9}) {
    EXPECT_EQ(clip.coefficient(norm), fresh.coefficient(norm));
    EXPECT_EQ(numbers(clip), numbers(fresh));
    EXPECT_TRUE(clip.state().begun());
  }
}

TEST(AdaptiveClip, GoesOnFromASavedState) {
  AdaptiveClip whole, first_half, second_half;
  for (const double norm : {0.3, 0.1, 0.5}) {
    EXPECT_EQ(whole.coefficient(norm), first_half.coefficient(norm));
  }
  second_half.restore(first_half.state());
  for (const double norm : {0.7, 0.2, 5.0}) {
    EXPECT_EQ(whole.coefficient(norm), second_half.coefficient(norm));
    EXPECT_EQ(numbers(whole), numbers(second_half));
  }
}

TEST(AdaptiveClip, RefusesWhatIsNoNorm) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  AdaptiveClip clip;
  clip.coefficient(0.3);
  const std::vector<double> before = numbers(clip);
  for (const double norm : {std::nan(""), kInfinity, -kInfinity, -1.0}) {
    EXPECT_THROW(clip.coefficient(norm), RunError) << norm;
    EXPECT_EQ(numbers(clip), before);
  }
  for (const AdaptiveClipState& state :
       {AdaptiveClipState{-1, 1, 1}, AdaptiveClipState{1, std::nan(""), 1},
        AdaptiveClipState{1, 1, kInfinity}}) {
    EXPECT_THROW(clip.restore(state), InputError);
    EXPECT_EQ(numbers(clip), before);
  }
  EXPECT_THROW(AdaptiveClip(0.0), c10::Error);
  EXPECT_THROW(AdaptiveClip(2000.0), c10::Error);
  EXPECT_THROW(AdaptiveClip(1.0, 1.0), c10::Error);
}

}  // namespace
}  // namespace ospnext
