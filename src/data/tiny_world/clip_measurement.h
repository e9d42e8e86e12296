// Measures the attributes of a procedural clip on its frames, by image processing without learning.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/torch/torch.h"
#include "data/tiny_world/procedural_clips.h"

namespace ospnext {

// An attribute is empty when the frames show none of the world's values: no object of a known
// colour was found, or the object does not move. The numbers behind the decisions are kept for
// reports. Lengths are in units of the frame's shorter side.
struct MeasuredObject {
  std::optional<ObjectColour> colour;
  std::optional<ObjectShape> shape;
  std::optional<ObjectSize> size;
  std::optional<ObjectMotion> motion;

  double radius = 0;    // of the disk of equal area, at the middle frame
  double growth = 0;    // log(last radius / first radius)
  double turns = 0;     // of the mark around the object's centre, clockwise
  double travel_x = 0;  // from the first to the last frame
  double travel_y = 0;
};

struct MeasuredClip {
  BackgroundColour background = BackgroundColour::kBlack;
  BackgroundPattern pattern = BackgroundPattern::kPlain;
  std::vector<MeasuredObject> objects;  // `num_objects` entries, largest first
};

// Measures one clip. frames [3, T, H, W] in [-1, 1], on any device and of any float type, T frames
// of H x W pixels; num_objects 1 or 2. Throws c10::Error for another shape, T < 5 or another
// number. Each attribute is right for at least 98 of 100 rendered clips (docs/tiny_world.md).
MeasuredClip measure_clip(const at::Tensor& frames, int64_t num_objects);
// The same of pixels in [0, 1], float32 on the CPU.
MeasuredClip measure_pixels(const at::Tensor& frames, int64_t num_objects);

// Which attributes of a clip were measured correctly, with one entry per object of `clip`.
struct AttributeMatch {
  struct Object {
    bool colour = false, shape = false, size = false, motion = false;
  };
  bool background = false;  // the colour of the background
  bool pattern = false;
  std::vector<Object> objects;
};
// Compares a clip with its measurement. Two objects are matched by colour. An object with a colour
// that was not found is matched with the remaining measured object. Throws c10::Error when the
// numbers of objects differ.
AttributeMatch compare(const ClipSpec& clip, const MeasuredClip& measured);

}  // namespace ospnext
