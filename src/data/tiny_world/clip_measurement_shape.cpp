// Decides the shape of an object from the waves of its outline. Rotation does not change them.
#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "data/tiny_world/clip_measurement_features.h"

namespace ospnext {
namespace {

constexpr int kRays = 90;

// The largest whole number that is not above `value`; std::floor() is a call.
int64_t whole_below(double value) {
  const auto whole = static_cast<int64_t>(value);
  return static_cast<double>(whole) > value ? whole - 1 : whole;
}

// The silhouette at (x, y), interpolated between the four nearest pixel centres: 0 outside, 1
// inside.
double sample(const Silhouette& silhouette, int64_t H, int64_t W, double x, double y) {
  const int64_t left = whole_below(x - 0.5), top = whole_below(y - 0.5);
  const double fx = x - 0.5 - static_cast<double>(left);
  const double fy = y - 0.5 - static_cast<double>(top);
  const auto at = [&](int64_t r, int64_t c) {
    return r < 0 || c < 0 || r >= H || c >= W ? 0.0 : double{silhouette.pixels[r * W + c] * 1.0};
  };
  return (1 - fy) * ((1 - fx) * at(top, left) + fx * at(top, left + 1)) +
         fy * ((1 - fx) * at(top + 1, left) + fx * at(top + 1, left + 1));
}

// Whether sample() can be more than 0 there.
bool touches(const Box& box, double x, double y) {
  return x > static_cast<double>(box.left) - 0.5 && x < static_cast<double>(box.right) + 0.5 &&
         y > static_cast<double>(box.top) - 0.5 && y < static_cast<double>(box.bottom) + 0.5;
}

// How far the silhouette reaches from its centre in each of kRays directions, in pixels.
std::array<double, kRays> outline(const Silhouette& silhouette, int64_t H, int64_t W) {
  constexpr double kStep = 0.25;
  const double farthest = 2.2 * std::sqrt(silhouette.area / std::numbers::pi);
  std::array<double, kRays> reach{};
  for (int ray = 0; ray < kRays; ++ray) {
    const double turn = 2 * std::numbers::pi * ray / kRays;
    const double across = std::cos(turn), down = std::sin(turn);
    for (double r = kStep / 2; r < farthest; r += kStep) {
      const double x = silhouette.x + r * across, y = silhouette.y + r * down;
      if (!touches(silhouette.box, x, y)) {
        break;  // the ray never comes back
      }
      reach[ray] += kStep * sample(silhouette, H, W, x, y);
    }
  }
  return reach;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

ShapeFeatures shape_features(const TrackedObject& object, int64_t height, int64_t width) {
  // The outline is clearest in the frames where the object is largest.
  std::vector<const Silhouette*> frames;
  for (const Silhouette& frame : object.frames) {
    if (frame.area >= 12) {
      frames.push_back(&frame);
    }
  }
  std::ranges::stable_sort(frames, std::greater<>(), &Silhouette::area);
  frames.resize((frames.size() + 1) / 2);
  ShapeFeatures features;
  if (frames.empty()) {
    return features;
  }
  std::vector<std::vector<double>> waves(features.waves.size());
  std::vector<double> holes;
  for (const Silhouette* frame : frames) {
    const auto reach = outline(*frame, height, width);
    std::vector<std::complex<double>> sums(waves.size());
    for (int ray = 0; ray < kRays; ++ray) {
      for (size_t k = 0; k < waves.size(); ++k) {
        sums[k] += reach[ray] *
                   std::polar(1.0, -2 * std::numbers::pi * ray * static_cast<double>(k) / kRays);
      }
    }
    for (size_t k = 0; k < waves.size(); ++k) {
      waves[k].push_back(2 * std::abs(sums[k]) / std::abs(sums[0]));
    }
    holes.push_back(frame->hole);
  }
  for (size_t k = 0; k < waves.size(); ++k) {
    features.waves[k] = median(waves[k]);
  }
  features.hole = median(holes);
  return features;
}

std::optional<ObjectShape> decide_shape(const ShapeFeatures& features) {
  if (features.waves[0] == 0) {
    return std::nullopt;
  }
  if (features.hole > 0.12) {
    return ObjectShape::kRing;
  }
  const auto& waves = features.waves;
  const double strongest = std::max({waves[3], waves[4], waves[5]});
  if (strongest < 0.05) {
    return ObjectShape::kCircle;
  }
  if (strongest == waves[3]) {
    return ObjectShape::kTriangle;
  }
  if (strongest == waves[5]) {
    return ObjectShape::kStar;
  }
  return waves[4] > 0.18 ? ObjectShape::kCross : ObjectShape::kSquare;
}

}  // namespace ospnext
