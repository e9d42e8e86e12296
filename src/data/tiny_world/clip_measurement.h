// What a procedural clip shows, read off its frames by plain image measurements: nothing is learned.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/torch/torch.h"
#include "data/tiny_world/procedural_clips.h"

namespace ospnext {

// An attribute is empty when the frames show none of the world's values (no object of that colour, or
// an object that does not move). The numbers behind the decisions are kept to report on.
struct MeasuredObject {
  std::optional<ObjectColour> colour;
  std::optional<ObjectShape> shape;
  std::optional<ObjectSize> size;
  std::optional<ObjectMotion> motion;

  double radius = 0;    // of the disk of equal area at the middle frame, of the shorter side
  double growth = 0;    // log of last radius over first
  double turns = 0;     // of the mark about the object's centre, clockwise
  double travel_x = 0;  // from first to last frame, of the shorter side
  double travel_y = 0;
};

struct MeasuredClip {
  BackgroundColour background = BackgroundColour::kBlack;
  BackgroundPattern pattern = BackgroundPattern::kPlain;
  std::vector<MeasuredObject> objects;  // as many as asked for, largest first
};

// frames [3, T, H, W] in [-1, 1], any device and float type; num_objects 1 or 2. Throws for T < 5.
// Right for at least 98 of 100 rendered clips, attribute by attribute (docs/tiny_world.md).
MeasuredClip measure_clip(const at::Tensor& frames, int64_t num_objects);

// Which attributes of a clip a measurement got, an entry per object of `clip`. Objects are matched by
// colour; one whose colour was not found is matched with what is left over.
struct AttributeMatch {
  struct Object {
    bool colour = false, shape = false, size = false, motion = false;
  };
  bool background = false;  // its colour
  bool pattern = false;
  std::vector<Object> objects;
};
AttributeMatch compare(const ClipSpec& clip, const MeasuredClip& measured);

}  // namespace ospnext
