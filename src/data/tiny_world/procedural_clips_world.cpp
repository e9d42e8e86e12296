// Words, colours and sizes of the procedural world, as tables.
#include "data/tiny_world/procedural_clips_world.h"

#include <algorithm>

namespace ospnext {
namespace {

// The table has one entry per enumerator, in the order of the enum.
template <class Table, class Enum>
auto entry(const Table& table, Enum value) {
  return table.at(static_cast<size_t>(value));
}

constexpr std::array<std::string_view, kNumShapes> kShapeWords{"circle", "square", "triangle",
                                                               "star",   "cross",  "ring"};
constexpr std::array<std::string_view, kNumColours> kColourWords{
    "red", "orange", "yellow", "green", "blue", "purple", "white"};
constexpr std::array<std::string_view, kNumSizes> kSizeWords{"small", "medium", "large"};
constexpr std::array<std::string_view, kNumMotions> kMotionWords{
    "moving left", "moving right", "moving up", "moving down", "bouncing",
    "orbiting",    "growing",      "shrinking", "spinning"};
constexpr std::array<std::string_view, kNumMotions> kMotionVerbs{
    "moves left", "moves right", "moves up", "moves down", "bounces",
    "orbits",     "grows",       "shrinks",  "spins"};
constexpr std::array<std::string_view, kNumBackgroundColours> kBackgroundWords{
    "black", "gray", "navy", "teal", "brown", "pink"};
constexpr std::array<std::string_view, kNumPatterns> kPatternWords{"plain", "striped", "checked",
                                                                   "dotted"};

constexpr std::array<Rgb, kNumColours> kColours{{{0.88F, 0.16F, 0.15F},
                                                 {0.98F, 0.54F, 0.09F},
                                                 {0.97F, 0.87F, 0.20F},
                                                 {0.16F, 0.72F, 0.25F},
                                                 {0.18F, 0.42F, 0.96F},
                                                 {0.62F, 0.22F, 0.82F},
                                                 {0.95F, 0.95F, 0.95F}}};
constexpr std::array<Rgb, kNumBackgroundColours> kBackgroundColours{{{0.08F, 0.08F, 0.09F},
                                                                     {0.50F, 0.50F, 0.50F},
                                                                     {0.11F, 0.14F, 0.34F},
                                                                     {0.08F, 0.36F, 0.38F},
                                                                     {0.40F, 0.28F, 0.20F},
                                                                     {0.82F, 0.60F, 0.66F}}};
// No mark, and no blend of a mark with its object, is close to a background colour.
constexpr Rgb kLightMark{0.97F, 0.97F, 0.97F};
constexpr Rgb kYellowMark{0.99F, 0.90F, 0.35F};
constexpr Rgb kCrimsonMark{0.70F, 0.06F, 0.14F};
constexpr Rgb kIndigoMark{0.16F, 0.20F, 0.70F};

constexpr std::array<double, kNumSizes> kRadii{0.110, 0.155, 0.215};

// For shapes with the area of the unit disk (geometry: procedural_clips_render.cpp).
constexpr std::array<double, kNumShapes> kCircumradii{1.0, 1.254, 1.556, 1.542, 1.226, 1.0};

}  // namespace

std::string_view word(ObjectShape shape) {
  return entry(kShapeWords, shape);
}
std::string_view word(ObjectColour colour) {
  return entry(kColourWords, colour);
}
std::string_view word(ObjectSize size) {
  return entry(kSizeWords, size);
}
std::string_view word(ObjectMotion motion) {
  return entry(kMotionWords, motion);
}
std::string_view word(BackgroundColour colour) {
  return entry(kBackgroundWords, colour);
}
std::string_view word(BackgroundPattern pattern) {
  return entry(kPatternWords, pattern);
}
std::string_view verb(ObjectMotion motion) {
  return entry(kMotionVerbs, motion);
}

Rgb rgb(ObjectColour colour) {
  return entry(kColours, colour);
}
Rgb rgb(BackgroundColour colour) {
  return entry(kBackgroundColours, colour);
}

Rgb mark_rgb(ObjectColour colour) {
  switch (colour) {
    case ObjectColour::kRed:
      return kYellowMark;
    case ObjectColour::kOrange:
    case ObjectColour::kYellow:
      return kCrimsonMark;
    case ObjectColour::kWhite:
      return kIndigoMark;
    default:
      return kLightMark;
  }
}

double nominal_radius(ObjectSize size) {
  return entry(kRadii, size);
}

double circumradius(ObjectShape shape) {
  return entry(kCircumradii, shape);
}

bool is_held_out(ObjectShape shape, ObjectColour colour) {
  return std::ranges::find(kHeldOutColours, std::pair(shape, colour)) != kHeldOutColours.end();
}

bool is_held_out(ObjectShape shape, ObjectMotion motion) {
  return std::ranges::find(kHeldOutMotions, std::pair(shape, motion)) != kHeldOutMotions.end();
}

}  // namespace ospnext
