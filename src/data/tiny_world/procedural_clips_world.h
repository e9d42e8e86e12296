// The attributes of the procedural world, their words and colours, and the pairs that are held out
// of training.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

namespace ospnext {

enum class ObjectShape { kCircle, kSquare, kTriangle, kStar, kCross, kRing };
enum class ObjectColour { kRed, kOrange, kYellow, kGreen, kBlue, kPurple, kWhite };
enum class ObjectSize { kSmall, kMedium, kLarge };
enum class ObjectMotion {
  kLeft,
  kRight,
  kUp,
  kDown,
  kBouncing,
  kOrbiting,
  kGrowing,
  kShrinking,
  kSpinning
};
enum class BackgroundColour { kBlack, kGray, kNavy, kTeal, kBrown, kPink };
enum class BackgroundPattern { kPlain, kStriped, kChecked, kDotted };

constexpr size_t kNumShapes = 6;
constexpr size_t kNumColours = 7;
constexpr size_t kNumSizes = 3;
constexpr size_t kNumMotions = 9;
constexpr size_t kNumBackgroundColours = 6;
constexpr size_t kNumPatterns = 4;

// The word that a caption uses: "circle", "red", "small", "gray", "striped". For a motion it is the
// participle: "moving left", "spinning".
std::string_view word(ObjectShape shape);
std::string_view word(ObjectColour colour);
std::string_view word(ObjectSize size);
std::string_view word(ObjectMotion motion);
std::string_view word(BackgroundColour colour);
std::string_view word(BackgroundPattern pattern);
// The motion in the third person: "moves left", "spins".
std::string_view verb(ObjectMotion motion);

using Rgb = std::array<float, 3>;  // in [0, 1]

Rgb rgb(ObjectColour colour);
Rgb rgb(BackgroundColour colour);
// The colour of the mark on an object of that colour: near white on most, otherwise a contrasting
// colour.
Rgb mark_rgb(ObjectColour colour);

// The radius of the disk with the object's area (for a ring, including its hole) at the middle
// frame, in units of the frame's shorter side, before a relative jitter of ± kRadiusJitter.
double nominal_radius(ObjectSize size);
constexpr double kRadiusJitter = 0.04;

// Distance from the centre to the farthest point of the shape, in units of that radius.
double circumradius(ObjectShape shape);

// True when the pair never occurs in the training split. Every shape, colour and motion is in at
// least one held-out pair and in several trained pairs.
bool is_held_out(ObjectShape shape, ObjectColour colour);
bool is_held_out(ObjectShape shape, ObjectMotion motion);

constexpr std::array<std::pair<ObjectShape, ObjectColour>, 7> kHeldOutColours{{
    {ObjectShape::kCircle, ObjectColour::kPurple},
    {ObjectShape::kSquare, ObjectColour::kWhite},
    {ObjectShape::kTriangle, ObjectColour::kBlue},
    {ObjectShape::kStar, ObjectColour::kRed},
    {ObjectShape::kCross, ObjectColour::kYellow},
    {ObjectShape::kRing, ObjectColour::kGreen},
    {ObjectShape::kCircle, ObjectColour::kOrange},
}};

constexpr std::array<std::pair<ObjectShape, ObjectMotion>, 9> kHeldOutMotions{{
    {ObjectShape::kSquare, ObjectMotion::kLeft},
    {ObjectShape::kTriangle, ObjectMotion::kRight},
    {ObjectShape::kRing, ObjectMotion::kUp},
    {ObjectShape::kStar, ObjectMotion::kDown},
    {ObjectShape::kCircle, ObjectMotion::kBouncing},
    {ObjectShape::kCross, ObjectMotion::kOrbiting},
    {ObjectShape::kStar, ObjectMotion::kGrowing},
    {ObjectShape::kCircle, ObjectMotion::kShrinking},
    {ObjectShape::kTriangle, ObjectMotion::kSpinning},
}};

}  // namespace ospnext
