// Procedural clips: one or two marked objects that move on a background; sampled by seed, rendered.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/torch/torch.h"
#include "data/tiny_world/procedural_clips_world.h"

namespace ospnext {

// One object: the attributes that a caption states, and its path. Lengths are in units of the
// frame's shorter side. The origin is the top left corner, y points down. Time runs from 0 at the
// first frame to 1 at the last frame of the motion.
struct ObjectSpec {
  ObjectShape shape = ObjectShape::kCircle;
  ObjectColour colour = ObjectColour::kRed;
  ObjectSize size = ObjectSize::kMedium;
  ObjectMotion motion = ObjectMotion::kSpinning;

  double radius = 0.155;  // of the disk of equal area, at time 1/2
  double growth = 0;      // radius(time) = radius * (1 + growth * (2 time - 1))
  // Centre at time 0 and at time 1. Orbiting: centre of the orbit; bouncing: centre on the floor.
  double x0 = 0.5, y0 = 0.5;
  double x1 = 0.5, y1 = 0.5;
  double orbit_radius = 0;   // of an orbiting object
  double bounce_height = 0;  // of a bouncing object
  double num_cycles = 0;     // bounces; turns of an orbit or a spin (negative: anticlockwise)
  double phase = 0;          // of bounce or orbit at time 0, in cycles
  double angle = 0;          // direction of the mark at time 0, in turns, clockwise from right
};

struct ClipSpec {
  int64_t height = 128;  // pixels
  int64_t width = 128;
  int64_t num_frames = 33;
  BackgroundColour background = BackgroundColour::kGray;
  BackgroundPattern pattern = BackgroundPattern::kPlain;
  double pattern_period = 0.28;         // in units of the shorter side
  double pattern_angle = 0;             // of stripes, in turns
  double pattern_x = 0, pattern_y = 0;  // shift, in periods
  std::vector<ObjectSpec> objects;      // one or two; the second is in front
};

// The motion takes this many frames (two seconds at 16 fps). A shorter clip shows the first frames
// at the same speed. A longer clip spreads the same motion over all its frames.
constexpr int64_t kMotionFrames = 33;
constexpr double kClipFps = 16;

// How often each shape is drawn for training (ClipSplit::kTrain), relative to the others. All > 0.
using ShapeShares = std::array<double, kNumShapes>;
constexpr ShapeShares kEqualShares = {1, 1, 1, 1, 1, 1};

struct ClipOptions {
  int64_t height = 128;  // pixels, at least 32
  int64_t width = 128;
  int64_t num_frames = 33;
  double two_objects = 0;  // probability of a second object
  double patterned = 0.5;  // probability of a pattern on the background
  ShapeShares shape_shares = kEqualShares;
};

enum class ClipSplit {
  kTrain,    // no object has a held-out pair
  kSeen,     // the same pairs as kTrain, other clips
  kHeldOut,  // at least one object has a held-out (shape, colour) or (shape, motion) pair
};

// Clip number `index` of a split. It depends on the arguments only. Two objects differ in colour
// and keep apart; they are at most medium and medium, or large and small. Throws c10::Error for a
// frame under 32 x 32 pixels or a clip without frames.
ClipSpec sample_clip(uint64_t seed, uint64_t index, ClipSplit split, const ClipOptions& options);

// An object at one time: centre and radius in units of the shorter side, angle in turns.
struct ObjectState {
  double x, y, radius, angle;
};
ObjectState object_state(const ObjectSpec& object, double time);

// Renders N clips with the same height, width and num_frames -> [N, 3, T, H, W] float32 in [-1, 1]
// on `device`, T frames of H x W pixels. Edges are two pixels soft at 128 pixels; light comes from
// the top left. Throws c10::Error for no clips or clips of different sizes.
at::Tensor render_clips(const std::vector<ClipSpec>& specs, at::Device device = at::kCPU);

}  // namespace ospnext
