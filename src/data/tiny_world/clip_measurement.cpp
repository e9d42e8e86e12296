// Measures a procedural clip: the background, then the objects, then their attributes.
#include "data/tiny_world/clip_measurement.h"

#include <algorithm>
#include <limits>

#include "core/torch/shape_check.h"
#include "data/tiny_world/clip_measurement_features.h"
#include "data/tiny_world/clip_measurement_masks.h"

namespace ospnext {
namespace {

BackgroundColour nearest_background(const Rgb& colour) {
  size_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < kNumBackgroundColours; ++i) {
    const Rgb candidate = rgb(static_cast<BackgroundColour>(i));
    double distance = 0;
    for (size_t c = 0; c < 3; ++c) {
      distance += (colour[c] - candidate[c]) * (colour[c] - candidate[c]);
    }
    if (distance < best_distance) {
      best_distance = distance;
      best = i;
    }
  }
  return static_cast<BackgroundColour>(best);
}

// For each object of the clip: the index of the measured object to compare it with.
std::vector<size_t> matched_by_colour(const ClipSpec& clip, const MeasuredClip& measured) {
  const auto same = [&](size_t i, size_t j) {
    return measured.objects[j].colour == clip.objects[i].colour;
  };
  if (clip.objects.size() == 1) {
    return {0};
  }
  const bool crossed = same(0, 1) || same(1, 0);
  const bool straight = same(0, 0) || same(1, 1);
  return crossed && !straight ? std::vector<size_t>{1, 0} : std::vector<size_t>{0, 1};
}

}  // namespace

MeasuredClip measure_clip(const at::Tensor& frames, int64_t num_objects) {
  const at::NoGradGuard no_grad;
  return measure_pixels(frames.to(at::kCPU, at::kFloat).add(1).mul_(0.5).clamp_(0, 1), num_objects);
}

MeasuredClip measure_pixels(const at::Tensor& frames, int64_t num_objects) {
  TORCH_CHECK(frames.dim() == 4 && frames.size(0) == 3 && frames.size(1) >= 5,
              "a measured clip: expected frames [3, T, H, W] with T of 5 or more, got ",
              shape_text(frames.sizes()));
  TORCH_CHECK(num_objects == 1 || num_objects == 2,
              "a measured clip: expected one or two objects, got ", num_objects);
  const at::NoGradGuard no_grad;
  const at::Tensor video = frames.contiguous();

  MeasuredClip measured;
  const Rgb background = border_colour(video);
  measured.background = nearest_background(background);
  const auto objects = track_objects(video, background, num_objects);
  measured.pattern = measure_pattern(video, objects);
  for (const TrackedObject& object : objects) {
    MeasuredObject& result = measured.objects.emplace_back();
    result.colour = object.colour;
    if (object.colour) {
      result.shape = decide_shape(shape_features(object, video.size(2), video.size(3)));
      measure_motion(result, object, video);
    }
  }
  return measured;
}

AttributeMatch compare(const ClipSpec& clip, const MeasuredClip& measured) {
  TORCH_CHECK(clip.objects.size() == measured.objects.size(), "compare: the clip has ",
              clip.objects.size(), " objects, the measurement ", measured.objects.size());
  AttributeMatch match;
  match.background = measured.background == clip.background;
  match.pattern = measured.pattern == clip.pattern;
  const auto order = matched_by_colour(clip, measured);
  for (size_t i = 0; i < clip.objects.size(); ++i) {
    const ObjectSpec& wanted = clip.objects[i];
    const MeasuredObject& found = measured.objects[order[i]];
    match.objects.push_back({found.colour == wanted.colour, found.shape == wanted.shape,
                             found.size == wanted.size, found.motion == wanted.motion});
  }
  return match;
}

}  // namespace ospnext
