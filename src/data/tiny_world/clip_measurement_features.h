// Decides shape, size, motion and pattern from the pixels of the objects and the background.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "core/torch/torch.h"
#include "data/tiny_world/clip_measurement.h"
#include "data/tiny_world/clip_measurement_masks.h"

namespace ospnext {

// Fourier features of an object's outline: the distance from its centre as a function of direction.
struct ShapeFeatures {
  std::array<double, 9> waves{};  // amplitude relative to the mean; the index is waves per turn
  double hole = 0;                // share of the area that shows the background
};
// The features of an object in a frame of `height` x `width` pixels: medians over the half of its
// frames with the largest area. All are 0 when no frame shows 12 pixels of it.
ShapeFeatures shape_features(const TrackedObject& object, int64_t height, int64_t width);
// The shape with these features; empty when they were not measured (waves[0] is 0).
std::optional<ObjectShape> decide_shape(const ShapeFeatures& features);

// Fills radius, growth, turns and travel of `measured`, then its size and motion. Leaves them as
// they are when the object is missing in more than half of the frames or present in fewer than 5.
// video [3, T, H, W] float32 in [0, 1], contiguous, on the CPU
void measure_motion(MeasuredObject& measured, const TrackedObject& object, const at::Tensor& video);

// The pattern of the background that the objects leave visible.
// video [3, T, H, W] float32 in [0, 1], on the CPU
BackgroundPattern measure_pattern(const at::Tensor& video,
                                  const std::vector<TrackedObject>& objects);

}  // namespace ospnext
