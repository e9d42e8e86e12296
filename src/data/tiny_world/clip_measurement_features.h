// Deciding shape, size, motion and pattern from the pixels of objects and background.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "core/torch/torch.h"
#include "data/tiny_world/clip_measurement.h"
#include "data/tiny_world/clip_measurement_masks.h"

namespace ospnext {

// Strength of the outline's waves about its centre (index: waves in a turn), and the hole's share.
struct ShapeFeatures {
  std::array<double, 9> waves{};
  double hole = 0;
};
ShapeFeatures shape_features(const TrackedObject& object, int64_t height, int64_t width);
std::optional<ObjectShape> decide_shape(const ShapeFeatures& features);

// Fills radius, growth, turns and travel of `measured`, then its size and motion.
void measure_motion(MeasuredObject& measured, const TrackedObject& object, const at::Tensor& video);

// The pattern of what the objects leave visible. video [3, T, H, W] in 0 to 1
BackgroundPattern measure_pattern(const at::Tensor& video,
                                  const std::vector<TrackedObject>& objects);

}  // namespace ospnext
