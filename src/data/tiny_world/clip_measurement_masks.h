// Finding the objects of a clip: their colours, and which pixels are theirs in each frame.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/torch/torch.h"
#include "data/tiny_world/procedural_clips_world.h"

namespace ospnext {

// One object in one frame. Pixels are row by row; coordinates are pixel centres.
struct Silhouette {
  std::vector<uint8_t> pixels;  // [H * W], 1 inside, holes filled
  double area = 0;              // of `pixels`; 0 when the object is not there
  double x = 0, y = 0;          // centre of mass of `pixels`
  double hole = 0;              // part of the area that shows the background
};

struct TrackedObject {
  std::optional<ObjectColour> colour;
  std::vector<Silhouette> frames;  // [T], empty when no colour was found
};

// Median colour of a band along the frame's border over all frames, from 0 to 1.
// video [3, T, H, W] in 0 to 1
Rgb border_colour(const at::Tensor& video);

// The `num_objects` most present object colours, and where they are; largest first.
std::vector<TrackedObject> track_objects(const at::Tensor& video, const Rgb& background,
                                         int64_t num_objects);

}  // namespace ospnext
