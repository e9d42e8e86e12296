// Samples procedural clips: attributes by split, then paths that stay in the frame and keep apart.
#include "data/tiny_world/procedural_clips.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <string>

#include "core/torch/random.h"

namespace ospnext {
namespace {

// Random draws that are the same on every platform. The distributions of the C++ standard library
// can differ between platforms.
class Dice {
 public:
  Dice(uint64_t seed, const std::string& purpose, uint64_t index)
      : engine_(derived_seed(seed, purpose, index)) {}

  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1.0p-53;
  }
  bool chance(double probability) { return uniform(0, 1) < probability; }
  size_t below(size_t n) { return static_cast<size_t>(uniform(0, static_cast<double>(n))); }
  double sign() { return chance(0.5) ? 1.0 : -1.0; }
  template <class Enum>
  Enum pick(size_t n) {
    return static_cast<Enum>(below(n));
  }

 private:
  std::mt19937_64 engine_;
};

bool has_held_out_pair(const ObjectSpec& object) {
  return is_held_out(object.shape, object.colour) || is_held_out(object.shape, object.motion);
}

void draw_attributes(ObjectSpec& object, Dice& dice) {
  object.shape = dice.pick<ObjectShape>(kNumShapes);
  object.colour = dice.pick<ObjectColour>(kNumColours);
  object.motion = dice.pick<ObjectMotion>(kNumMotions);
}

void draw_trained_attributes(ObjectSpec& object, const ShapeShares& shares, Dice& dice) {
  const double most = *std::ranges::max_element(shares);
  const auto kept = [&](ObjectShape shape) {
    const double share = shares.at(static_cast<size_t>(shape)) / most;
    return share == 1 || dice.chance(share);
  };
  do {
    draw_attributes(object, dice);
  } while (has_held_out_pair(object) || !kept(object.shape));
}

// Draws a held-out (shape, colour) pair or a held-out (shape, motion) pair, with equal probability.
void draw_held_out_attributes(ObjectSpec& object, Dice& dice) {
  draw_attributes(object, dice);
  if (dice.chance(0.5)) {
    std::tie(object.shape, object.colour) = kHeldOutColours[dice.below(kHeldOutColours.size())];
  } else {
    std::tie(object.shape, object.motion) = kHeldOutMotions[dice.below(kHeldOutMotions.size())];
  }
}

// Draws sizes that leave room for two objects: at most medium and medium, or large and small.
void draw_sizes(std::vector<ObjectSpec>& objects, Dice& dice) {
  const auto rank = [](const ObjectSpec& object) { return static_cast<int>(object.size); };
  do {
    for (ObjectSpec& object : objects) {
      object.size = dice.pick<ObjectSize>(kNumSizes);
    }
  } while (objects.size() == 2 && rank(objects[0]) + rank(objects[1]) > 2);
}

std::vector<ObjectSpec> draw_objects(size_t count, ClipSplit split, const ShapeShares& train_shares,
                                     Dice& dice) {
  const ShapeShares& shares = split == ClipSplit::kTrain ? train_shares : kEqualShares;
  std::vector<ObjectSpec> objects(count);
  const size_t held_out = split == ClipSplit::kHeldOut ? dice.below(count) : count;
  do {
    for (size_t i = 0; i < count; ++i) {
      if (split != ClipSplit::kHeldOut) {
        draw_trained_attributes(objects[i], shares, dice);
      } else if (i == held_out) {
        draw_held_out_attributes(objects[i], dice);
      } else {
        draw_attributes(objects[i], dice);
      }
    }
  } while (count == 2 && objects[0].colour == objects[1].colour);
  draw_sizes(objects, dice);
  return objects;
}

void draw_background(ClipSpec& clip, double patterned, Dice& dice) {
  clip.background = dice.pick<BackgroundColour>(kNumBackgroundColours);
  if (dice.chance(patterned)) {
    clip.pattern = static_cast<BackgroundPattern>(1 + dice.below(kNumPatterns - 1));
  }
  const bool checked = clip.pattern == BackgroundPattern::kChecked;
  clip.pattern_period = checked ? dice.uniform(0.30, 0.40) : dice.uniform(0.22, 0.30);
  clip.pattern_angle = static_cast<double>(dice.below(4)) / 8;  // 0, 45, 90 or 135 degrees
  clip.pattern_x = dice.uniform(0, 1);
  clip.pattern_y = dice.uniform(0, 1);
}

// Polygons stand upright on any of their sides, with a small tilt. A spinning object and a shape
// without corners start at any angle.
double draw_angle(const ObjectSpec& object, Dice& dice) {
  static constexpr std::array<size_t, kNumShapes> kSymmetry{0, 4, 3, 5, 4, 0};
  const size_t symmetry = kSymmetry.at(static_cast<size_t>(object.shape));
  if (symmetry == 0 || object.motion == ObjectMotion::kSpinning) {
    return dice.uniform(0, 1);
  }
  const double side = static_cast<double>(dice.below(symmetry)) / static_cast<double>(symmetry);
  return -0.25 + side + dice.uniform(-0.03, 0.03);
}

struct Frame {
  double width, height;  // in units of the shorter side
};

void draw_straight_path(ObjectSpec& object, double step_x, double step_y, double reach,
                        const Frame& frame, Dice& dice) {
  const double room = (step_x != 0 ? frame.width : frame.height) - 2 * reach;
  const double half = std::min(dice.uniform(0.32, 0.50), room) / 2;
  const double margin_x = reach + half * std::abs(step_x);
  const double margin_y = reach + half * std::abs(step_y);
  const double x = dice.uniform(margin_x, frame.width - margin_x);
  const double y = dice.uniform(margin_y, frame.height - margin_y);
  object.x0 = x - half * step_x;
  object.x1 = x + half * step_x;
  object.y0 = y - half * step_y;
  object.y1 = y + half * step_y;
}

void draw_bounce(ObjectSpec& object, double reach, const Frame& frame, Dice& dice) {
  draw_straight_path(object, 0, 0, reach, frame, dice);
  const double drift = dice.uniform(-0.04, 0.04);
  object.x0 = std::clamp(object.x0, reach + 0.04, frame.width - reach - 0.04) - drift;
  object.x1 = object.x0 + 2 * drift;
  object.bounce_height = std::min(dice.uniform(0.26, 0.38), frame.height - 2 * reach);
  object.y0 = object.y1 = dice.uniform(reach + object.bounce_height, frame.height - reach);
  object.num_cycles = dice.uniform(2.0, 2.5);
  object.phase = dice.uniform(0, 1);
}

void draw_orbit(ObjectSpec& object, double reach, const Frame& frame, Dice& dice) {
  const double room = std::min(frame.width, frame.height) / 2 - reach;
  object.orbit_radius = std::min(dice.uniform(0.17, 0.25), room);
  const double margin = reach + object.orbit_radius;
  object.x0 = object.x1 = dice.uniform(margin, frame.width - margin);
  object.y0 = object.y1 = dice.uniform(margin, frame.height - margin);
  object.num_cycles = dice.uniform(1.0, 1.25) * dice.sign();
  object.phase = dice.uniform(0, 1);
}

// Draws a path for the object's motion that stays inside the frame.
void draw_path(ObjectSpec& object, const Frame& frame, Dice& dice) {
  object.radius = nominal_radius(object.size) * dice.uniform(1 - kRadiusJitter, 1 + kRadiusJitter);
  object.angle = draw_angle(object, dice);
  object.growth = 0;
  double reach = object.radius * circumradius(object.shape);
  switch (object.motion) {
    case ObjectMotion::kLeft:
      return draw_straight_path(object, -1, 0, reach, frame, dice);
    case ObjectMotion::kRight:
      return draw_straight_path(object, 1, 0, reach, frame, dice);
    case ObjectMotion::kUp:
      return draw_straight_path(object, 0, -1, reach, frame, dice);
    case ObjectMotion::kDown:
      return draw_straight_path(object, 0, 1, reach, frame, dice);
    case ObjectMotion::kBouncing:
      return draw_bounce(object, reach, frame, dice);
    case ObjectMotion::kOrbiting:
      return draw_orbit(object, reach, frame, dice);
    case ObjectMotion::kSpinning:
      object.num_cycles = dice.uniform(1.05, 1.4) * dice.sign();
      return draw_straight_path(object, 0, 0, reach, frame, dice);
    case ObjectMotion::kGrowing:
    case ObjectMotion::kShrinking:
      object.growth =
          dice.uniform(0.34, 0.42) * (object.motion == ObjectMotion::kGrowing ? 1.0 : -1.0);
      reach *= 1 + std::abs(object.growth);
      return draw_straight_path(object, 0, 0, reach, frame, dice);
  }
}

// The smallest gap between two objects over the clip. Each object is treated as a disk. Its radius
// is the mean of the radius of equal area and the circumradius.
double least_gap(const ObjectSpec& first, const ObjectSpec& second) {
  const double first_reach = (1 + circumradius(first.shape)) / 2;
  const double second_reach = (1 + circumradius(second.shape)) / 2;
  double gap = std::numeric_limits<double>::infinity();
  for (int64_t step = 0; step < kMotionFrames; ++step) {
    const double time = static_cast<double>(step) / (kMotionFrames - 1);
    const ObjectState a = object_state(first, time);
    const ObjectState b = object_state(second, time);
    const double reach = a.radius * first_reach + b.radius * second_reach;
    gap = std::min(gap, std::hypot(a.x - b.x, a.y - b.y) - reach);
  }
  return gap;
}

// Draws paths on which two objects keep apart; false when none was found in kTries attempts.
bool draw_paths(std::vector<ObjectSpec>& objects, const Frame& frame, Dice& dice) {
  constexpr int kTries = 100;
  constexpr double kLeastGap = 0.015;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    for (ObjectSpec& object : objects) {
      draw_path(object, frame, dice);
    }
    if (objects.size() == 1 || least_gap(objects[0], objects[1]) > kLeastGap) {
      return true;
    }
  }
  return false;
}

}  // namespace

ClipSpec sample_clip(uint64_t seed, uint64_t index, ClipSplit split, const ClipOptions& options) {
  TORCH_CHECK(options.height >= 32 && options.width >= 32 && options.num_frames >= 1,
              "a procedural clip needs at least 32 x 32 pixels and one frame, got ", options.height,
              " x ", options.width, " and ", options.num_frames);
  static constexpr std::array<const char*, 3> kSplitNames{"train", "seen", "held out"};
  const std::string name = kSplitNames.at(static_cast<size_t>(split));

  ClipSpec clip;
  clip.height = options.height;
  clip.width = options.width;
  clip.num_frames = options.num_frames;
  Dice background_dice(seed, name + " clip background", index);
  draw_background(clip, options.patterned, background_dice);
  Dice attribute_dice(seed, name + " clip attributes", index);
  const size_t count = attribute_dice.chance(options.two_objects) ? 2 : 1;
  const double shorter = static_cast<double>(std::min(clip.height, clip.width));
  const Frame frame{static_cast<double>(clip.width) / shorter,
                    static_cast<double>(clip.height) / shorter};
  Dice path_dice(seed, name + " clip paths", index);
  do {  // draw other attributes when no paths fit both objects
    clip.objects = draw_objects(count, split, options.shape_shares, attribute_dice);
  } while (!draw_paths(clip.objects, frame, path_dice));
  return clip;
}

ObjectState object_state(const ObjectSpec& object, double time) {
  ObjectState state{std::lerp(object.x0, object.x1, time), std::lerp(object.y0, object.y1, time),
                    object.radius * (1 + object.growth * (2 * time - 1)), object.angle};
  const double cycle = object.phase + object.num_cycles * time;
  if (object.motion == ObjectMotion::kSpinning) {
    state.angle += object.num_cycles * time;
  } else if (object.motion == ObjectMotion::kOrbiting) {
    state.x += object.orbit_radius * std::cos(2 * std::numbers::pi * cycle);
    state.y += object.orbit_radius * std::sin(2 * std::numbers::pi * cycle);
  } else if (object.motion == ObjectMotion::kBouncing) {
    const double from_top = 2 * (cycle - std::floor(cycle)) - 1;  // -1 and 1: on the floor
    state.y -= object.bounce_height * (1 - from_top * from_top);
  }
  return state;
}

}  // namespace ospnext
