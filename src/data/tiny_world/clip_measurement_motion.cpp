// Decides size and motion of an object from its track: centre, area and mark in each frame.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/tiny_world/clip_measurement_features.h"

namespace ospnext {
namespace {

// The object in one frame. Lengths are in units of the shorter side.
struct TrackPoint {
  double x, y, radius;
};

// The same angle in [-0.5, 0.5] turns.
double wrapped(double turns) {
  return turns - std::round(turns);
}

// Direction from the object's centre to the mark, in turns; empty when no mark stands out.
// planes: red, green and blue of the frame, [H * W] each, in [0, 1]; W pixels per row
std::optional<double> mark_angle(const Silhouette& frame, ObjectColour colour, int64_t W,
                                 const std::array<const float*, 3>& planes) {
  const Rgb object = rgb(colour);
  const Rgb mark = mark_rgb(colour);
  double length = 0;
  for (size_t c = 0; c < 3; ++c) {
    length += (mark[c] - object[c]) * (mark[c] - object[c]);
  }
  double weight = 0;
  double x = 0;
  double y = 0;
  const auto size = static_cast<int64_t>(frame.pixels.size());
  const int64_t begin = std::max(W + 1, frame.box.top * W);
  const int64_t end = std::min(size - W - 1, frame.box.bottom * W);
  for (int64_t i = begin; i < end; ++i) {
    const bool inside = frame.pixels[i] != 0 && frame.pixels[i - 1] != 0 &&
                        frame.pixels[i + 1] != 0 && frame.pixels[i - W] != 0 &&
                        frame.pixels[i + W] != 0;
    if (!inside) {
      continue;
    }
    double along = 0;
    double squared = 0;
    for (size_t c = 0; c < 3; ++c) {
      const double difference = planes[c][i] - object[c];
      along += difference * (mark[c] - object[c]) / length;
      squared += difference * difference;
    }
    // Count only pixels with a colour near the line between the object's colour and the mark's.
    const double aside = std::sqrt(std::max(0.0, squared - along * along * length));
    const double w = aside < 0.3 ? std::clamp(along - 0.3, 0.0, 0.5) : 0.0;
    weight += w;
    x += w * (static_cast<double>(i % W) + 0.5 - frame.x);
    const int64_t row = i / W;
    y += w * (static_cast<double>(row) + 0.5 - frame.y);
  }
  if (weight < 0.005 * frame.area || std::hypot(x, y) < 0.5 * weight) {
    return std::nullopt;
  }
  return std::atan2(y, x) / (2 * std::numbers::pi);
}

// Turns of the mark between the first and the last frame that show it.
// video [3, T, H, W] float32, contiguous, on the CPU
double mark_turns(const TrackedObject& object, const at::Tensor& video) {
  const int64_t T = video.size(1);
  const int64_t W = video.size(3);
  const int64_t plane = video.size(2) * W;
  const float* data = video.data_ptr<float>();
  std::optional<double> previous;
  double turns = 0;
  for (int64_t t = 0; t < T; ++t) {
    const auto angle =
        mark_angle(object.frames[t], *object.colour, W,
                   {data + t * plane, data + (T + t) * plane, data + (2 * T + t) * plane});
    if (angle && previous) {
      turns += wrapped(*angle - *previous);
    }
    previous = angle ? angle : previous;
  }
  return turns;
}

template <class Value>
double mean_of(const std::vector<TrackPoint>& track, size_t begin, size_t end, Value&& value) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) {
    sum += value(track[i]);
  }
  return sum / static_cast<double>(end - begin);
}

// Features of a whole track. Lengths are in units of the shorter side.
struct Path {
  double range_x, range_y;  // extents of the path
  double up_and_down;       // sum of |dy| over all frames
  double circling;          // turns around the middle of the path, without sign
};

Path describe(const std::vector<TrackPoint>& track) {
  const auto [left, right] = std::ranges::minmax(track, {}, &TrackPoint::x);
  const auto [top, bottom] = std::ranges::minmax(track, {}, &TrackPoint::y);
  Path path{right.x - left.x, bottom.y - top.y, 0, 0};
  const double x = (left.x + right.x) / 2;
  const double y = (top.y + bottom.y) / 2;
  const auto direction = [&](const TrackPoint& point) {
    return std::atan2(point.y - y, point.x - x) / (2 * std::numbers::pi);
  };
  for (size_t i = 1; i < track.size(); ++i) {
    path.up_and_down += std::abs(track[i].y - track[i - 1].y);
    path.circling += wrapped(direction(track[i]) - direction(track[i - 1]));
  }
  path.circling = std::abs(path.circling);
  return path;
}

std::optional<ObjectMotion> decide_motion(const MeasuredObject& it, const Path& path) {
  const double wide = std::max(path.range_x, path.range_y);
  const double narrow = std::min(path.range_x, path.range_y);
  if (narrow > 0.10 && narrow > 0.5 * wide && path.circling > 0.6) {
    return ObjectMotion::kOrbiting;
  }
  if (path.range_y > 0.12 && path.range_y > path.range_x && path.up_and_down > 1.8 * path.range_y) {
    return ObjectMotion::kBouncing;
  }
  if (std::hypot(it.travel_x, it.travel_y) > 0.16) {
    if (std::abs(it.travel_x) > std::abs(it.travel_y)) {
      return it.travel_x < 0 ? ObjectMotion::kLeft : ObjectMotion::kRight;
    }
    return it.travel_y < 0 ? ObjectMotion::kUp : ObjectMotion::kDown;
  }
  if (std::abs(it.growth) > 0.3) {
    return it.growth > 0 ? ObjectMotion::kGrowing : ObjectMotion::kShrinking;
  }
  if (std::abs(it.turns) > 0.5) {
    return ObjectMotion::kSpinning;
  }
  return std::nullopt;
}

ObjectSize decide_size(double radius) {
  const auto between = [](ObjectSize smaller, ObjectSize larger) {
    return std::sqrt(nominal_radius(smaller) * nominal_radius(larger));
  };
  if (radius < between(ObjectSize::kSmall, ObjectSize::kMedium)) {
    return ObjectSize::kSmall;
  }
  return radius < between(ObjectSize::kMedium, ObjectSize::kLarge) ? ObjectSize::kMedium
                                                                   : ObjectSize::kLarge;
}

}  // namespace

void measure_motion(MeasuredObject& measured, const TrackedObject& object,
                    const at::Tensor& video) {
  const double shorter = static_cast<double>(std::min(video.size(2), video.size(3)));
  std::vector<TrackPoint> track;
  for (const Silhouette& frame : object.frames) {
    if (frame.area > 0) {
      track.push_back({frame.x / shorter, frame.y / shorter,
                       std::sqrt(frame.area / std::numbers::pi) / shorter});
    }
  }
  const size_t count = track.size();
  if (2 * count < object.frames.size() || count < 5) {
    return;  // too few frames show the object
  }
  const auto radius = [](const TrackPoint& point) { return point.radius; };
  measured.radius = mean_of(track, count / 2 - 1, count / 2 + 2, radius);
  measured.growth =
      std::log(mean_of(track, count - 2, count, radius) / mean_of(track, 0, 2, radius));
  measured.travel_x = track.back().x - track.front().x;
  measured.travel_y = track.back().y - track.front().y;
  measured.turns = mark_turns(object, video);
  measured.size = decide_size(measured.radius);
  measured.motion = decide_motion(measured, describe(track));
}

}  // namespace ospnext
