// Finds the objects of a clip: their colours, and the pixels of each object in each frame.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/torch/torch.h"
#include "data/tiny_world/frame_masks.h"
#include "data/tiny_world/procedural_clips_world.h"

namespace ospnext {

// A rectangle of pixels: rows `top` to `bottom` - 1 and columns `left` to `right` - 1.
struct Box {
  int64_t top = 0, bottom = 0, left = 0, right = 0;
};

// One object in one frame of H x W pixels, in row-major order. Coordinates are in pixels; the
// centre of the first pixel is (0.5, 0.5).
struct Silhouette {
  Mask pixels;          // [H * W], 1 inside, holes filled
  Box box;              // the smallest that holds all of them
  double area = 0;      // pixels that are set; 0 when the frame does not show the object
  double x = 0, y = 0;  // centre of mass of `pixels`
  double hole = 0;      // share of the area that shows the background
};

struct TrackedObject {
  std::optional<ObjectColour> colour;
  std::vector<Silhouette> frames;  // [T], empty when no colour was found
};

// Median colour of a band along the border of every fourth frame, in [0, 1].
// video [3, T, H, W] float32 in [0, 1]
Rgb border_colour(const at::Tensor& video);

// The objects of the `num_objects` most frequent object colours, most frequent first. An object
// that was not found has no colour and no frames.
// video [3, T, H, W] float32 in [0, 1], contiguous, on the CPU
std::vector<TrackedObject> track_objects(const at::Tensor& video, const Rgb& background,
                                         int64_t num_objects);

}  // namespace ospnext
