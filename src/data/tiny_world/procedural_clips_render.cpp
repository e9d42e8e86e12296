// Renders procedural clips: signed distance functions on tensors, many clips at once.
// In shapes, N is the number of clips, M of objects in a layer, T of frames; H x W is a frame in
// pixels.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/torch/shape_check.h"
#include "data/tiny_world/procedural_clips.h"

namespace ospnext {
namespace {

constexpr double kPatternContrast = 0.05;  // distance of a pattern's tones from the base colour
constexpr double kRingOuter = 1.0;
constexpr double kRingInner = 0.5;
// Half the length and half the width of the two bars of a cross. The area of the cross is pi.
constexpr double kCrossLength = 1.154;
constexpr double kCrossHalfWidth = 0.414;
constexpr double kStarInner = 0.45;  // inner radius over outer radius
constexpr double kMarkRadius = 0.29;

// 0 where edge <= 0, 1 where edge >= 1, smooth in between. Any shape -> same.
at::Tensor smooth_step(const at::Tensor& edge) {
  const at::Tensor inside = edge.clamp(0, 1);
  return inside * inside * (3 - 2 * inside);
}

// Signed distance to a shape, negative inside. The shape has the area of the unit disk (a ring:
// outer radius 1) and points to +x. The distance is exact near the edge, except outside of corners.
// x, y [M, T, H, W] -> same
at::Tensor signed_distance(ObjectShape shape, const at::Tensor& x, const at::Tensor& y) {
  switch (shape) {
    case ObjectShape::kCircle:
      return at::hypot(x, y).sub_(1);
    case ObjectShape::kRing:
      return at::hypot(x, y)
          .sub_((kRingOuter + kRingInner) / 2)
          .abs_()
          .sub_((kRingOuter - kRingInner) / 2);
    case ObjectShape::kSquare:
      return at::maximum(x.abs(), y.abs()).sub_(std::sqrt(std::numbers::pi) / 2);
    case ObjectShape::kTriangle: {
      const double inradius = std::sqrt(std::numbers::pi / (3 * std::sqrt(3.0)));
      const at::Tensor slanted = (x * 0.5).add_(y.abs(), std::sqrt(3.0) / 2);
      return at::maximum(slanted, -x).sub_(inradius);
    }
    case ObjectShape::kCross: {
      const at::Tensor ax = x.abs();
      const at::Tensor ay = y.abs();
      return at::maximum(at::maximum(ax, ay).sub_(kCrossLength),
                         at::minimum(ax, ay).sub_(kCrossHalfWidth));
    }
    case ObjectShape::kStar: {
      // Fold the plane onto one half of one point of the star. Its edge is the line from the tip to
      // an inner corner.
      const double sector = std::numbers::pi / 5;
      const double outer = circumradius(shape);
      const double corner_x = kStarInner * outer * std::cos(sector);
      const double corner_y = kStarInner * outer * std::sin(sector);
      const double length = std::hypot(outer - corner_x, corner_y);
      const at::Tensor turn = at::atan2(y, x);
      const at::Tensor folded = (turn - (turn / (2 * sector)).round_().mul_(2 * sector)).abs_();
      const at::Tensor radius = at::hypot(x, y);
      const at::Tensor along = (folded.cos().mul_(radius)).sub_(outer);
      const at::Tensor across = folded.sin_().mul_(radius);
      return along.mul_(corner_y / length).add_(across, (outer - corner_x) / length);
    }
  }
  return {};
}

// Distance from the object's centre to the mark's, in units of the object's radius.
double mark_offset(ObjectShape shape) {
  switch (shape) {
    case ObjectShape::kRing:
      return (kRingOuter + kRingInner) / 2;
    case ObjectShape::kCross:
      return 0.68;
    case ObjectShape::kSquare:
      return 0.42;
    default:
      return 0.48;
  }
}

// Coordinates of the centres of n pixels: 0.5, 1.5, ... -> [n] float32
at::Tensor pixel_centres(int64_t n, at::Device device) {
  return at::arange(n, at::TensorOptions().dtype(at::kFloat).device(device)) + 0.5;
}

// Copies host numbers to the device in one transfer. -> [n / columns, columns] float32
at::Tensor upload(const std::vector<float>& values, int64_t columns, at::Device device) {
  const int64_t rows = static_cast<int64_t>(values.size()) / columns;
  return at::from_blob(const_cast<float*>(values.data()), {rows, columns}, at::kFloat)
      .to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

// The backgrounds, which do not move. -> [N, 3, 1, H, W] in [0, 1]
at::Tensor render_backgrounds(const std::vector<ClipSpec>& specs, at::Device device) {
  const int64_t N = static_cast<int64_t>(specs.size());
  const int64_t H = specs[0].height;
  const int64_t W = specs[0].width;
  const double shorter = static_cast<double>(std::min(H, W));
  constexpr int64_t kColumns = 11;
  std::vector<float> numbers;
  for (const ClipSpec& clip : specs) {
    const Rgb colour = rgb(clip.background);
    const double turn = 2 * std::numbers::pi * clip.pattern_angle;
    const auto is = [&](BackgroundPattern pattern) { return clip.pattern == pattern ? 1.0 : 0.0; };
    for (const double value : {double{colour[0]}, double{colour[1]}, double{colour[2]},
                               clip.pattern_period * shorter, std::cos(turn), std::sin(turn),
                               clip.pattern_x, clip.pattern_y, is(BackgroundPattern::kStriped),
                               is(BackgroundPattern::kChecked), is(BackgroundPattern::kDotted)}) {
      numbers.push_back(static_cast<float>(value));
    }
  }
  const at::Tensor table = upload(numbers, kColumns, device);
  const auto column = [&](int64_t i) { return table.select(1, i).view({N, 1, 1}); };  // [N, 1, 1]

  // Coordinates in periods of the pattern.
  const at::Tensor x = pixel_centres(W, device).view({1, 1, W}) / column(3);  // [N, 1, W]
  const at::Tensor y = pixel_centres(H, device).view({1, H, 1}) / column(3);  // [N, H, 1]
  const auto wave = [](const at::Tensor& periods) {
    return (at::sin(2 * std::numbers::pi * periods) * 2.5).clamp_(-1, 1);
  };
  const at::Tensor stripes = wave(x * column(4) + y * column(5) + column(6));  // [N, H, W]
  const at::Tensor checks = wave(x + column(6)) * wave(y + column(7));
  const auto from_centre = [](const at::Tensor& periods) { return periods - periods.round(); };
  const at::Tensor dot_distance = at::hypot(from_centre(x + column(6)), from_centre(y + column(7)));
  const at::Tensor dots = 2 * smooth_step((0.36 - dot_distance) / 0.12) - 0.6;
  const at::Tensor pattern = stripes * column(8) + checks * column(9) + dots * column(10);
  const at::Tensor light =
      1.05 - 0.10 * pixel_centres(H, device).view({1, 1, H, 1}) / H;   // [1, 1, H, 1]
  const at::Tensor tone = pattern.mul(kPatternContrast).unsqueeze(1);  // [N, 1, H, W]
  const at::Tensor base = table.slice(1, 0, 3).view({N, 3, 1, 1});     // [N, 3, 1, 1]
  return ((base + tone) * light).unsqueeze(2);                         // [N, 3, 1, H, W]
}

// Objects that are drawn in one pass: one object of each of some clips.
struct Layer {
  std::vector<const ObjectSpec*> objects;  // sorted by shape
  std::vector<int64_t> clips;              // index of the clip of each object
};

Layer sorted_layer(const std::vector<ClipSpec>& specs, size_t slot) {
  Layer layer;
  for (int64_t i = 0; i < static_cast<int64_t>(specs.size()); ++i) {
    if (slot < specs[i].objects.size()) {
      layer.clips.push_back(i);
    }
  }
  std::ranges::stable_sort(
      layer.clips, {}, [&](int64_t i) { return static_cast<int>(specs[i].objects[slot].shape); });
  for (const int64_t i : layer.clips) {
    layer.objects.push_back(&specs[i].objects[slot]);
  }
  return layer;
}

// Per object and frame: centre x, y and radius in pixels, cosine and sine of the angle.
// -> [M, T, 5]
at::Tensor upload_states(const Layer& layer, const ClipSpec& size, at::Device device) {
  const double shorter = static_cast<double>(std::min(size.height, size.width));
  const double last = static_cast<double>(std::max(size.num_frames, kMotionFrames) - 1);
  std::vector<float> numbers;
  for (const ObjectSpec* object : layer.objects) {
    for (int64_t frame = 0; frame < size.num_frames; ++frame) {
      const ObjectState state = object_state(*object, static_cast<double>(frame) / last);
      const double turn = 2 * std::numbers::pi * state.angle;
      for (const double value : {state.x * shorter, state.y * shorter, state.radius * shorter,
                                 std::cos(turn), std::sin(turn)}) {
        numbers.push_back(static_cast<float>(value));
      }
    }
  }
  return upload(numbers, 5, device).view({-1, size.num_frames, 5});  // [M, T, 5]
}

// Per object: its colour (3), the mark's colour (3) and the mark's offset (1). -> [M, 7]
at::Tensor upload_colours(const Layer& layer, at::Device device) {
  std::vector<float> numbers;
  for (const ObjectSpec* object : layer.objects) {
    const Rgb colour = rgb(object->colour);
    const Rgb mark = mark_rgb(object->colour);
    numbers.insert(numbers.end(), colour.begin(), colour.end());
    numbers.insert(numbers.end(), mark.begin(), mark.end());
    numbers.push_back(static_cast<float>(mark_offset(object->shape)));
  }
  return upload(numbers, 7, device);
}

// Signed distances of a layer's objects, which are sorted by shape. x, y [M, T, H, W] -> same
at::Tensor layer_distance(const Layer& layer, const at::Tensor& x, const at::Tensor& y) {
  std::vector<at::Tensor> parts;
  for (size_t begin = 0, end = 0; begin < layer.objects.size(); begin = end) {
    const ObjectShape shape = layer.objects[begin]->shape;
    while (end < layer.objects.size() && layer.objects[end]->shape == shape) {
      ++end;
    }
    const auto first = static_cast<int64_t>(begin);
    const auto count = static_cast<int64_t>(end - begin);
    parts.push_back(signed_distance(shape, x.narrow(0, first, count), y.narrow(0, first, count)));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

// Draws the objects of a layer in place over `video` [M, 3, T, H, W], the clips of the layer in
// order.
void draw_layer(at::Tensor& video, const Layer& layer, const ClipSpec& size) {
  const at::Device device = video.device();
  const int64_t M = video.size(0);
  const int64_t T = size.num_frames;
  const int64_t H = size.height;
  const int64_t W = size.width;
  const double edge = std::max(1.5, static_cast<double>(std::min(H, W)) / 64);  // pixels
  const at::Tensor states = upload_states(layer, size, device);
  const at::Tensor colours = upload_colours(layer, device);
  const auto state = [&](int64_t i) {
    return states.select(2, i).view({M, T, 1, 1});  // [M, T, 1, 1]
  };
  const at::Tensor radius = state(2);

  const at::Tensor right =
      (pixel_centres(W, device).view({1, 1, 1, W}) - state(0)) / radius;  // [M, T, 1, W]
  const at::Tensor below =
      (pixel_centres(H, device).view({1, 1, H, 1}) - state(1)) / radius;  // [M, T, H, 1]
  const at::Tensor x = right * state(3) + below * state(4);               // [M, T, H, W]
  const at::Tensor y = below * state(3) - right * state(4);
  const at::Tensor distance = layer_distance(layer, x, y);
  const at::Tensor softness = radius / edge;
  const at::Tensor cover = smooth_step((distance * softness).neg_().add_(0.5));
  const at::Tensor mark_distance =
      at::hypot(x - colours.select(1, 6).view({M, 1, 1, 1}), y);  // [M, T, H, W]
  const at::Tensor mark = smooth_step((kMarkRadius - mark_distance).mul_(softness).add_(0.5));

  // Light from the top left, a darker rim, and a faint shadow around the object.
  const at::Tensor rim = (1 + distance * 2.5).clamp_(0, 1).square_();
  const at::Tensor slope = (right + below).clamp_(-1.6, 1.6);
  const at::Tensor shade = rim.mul_(-0.14).add_(slope, -0.07).add_(1.05).mul_(cover);
  const at::Tensor shadow = (1 - distance * 3).clamp_(0, 1).square_().mul_(-0.16).add_(1);
  const at::Tensor behind = shadow.mul_(1 - cover);
  const at::Tensor marked = shade * mark;
  const at::Tensor plain = shade - marked;
  for (int64_t channel = 0; channel < 3; ++channel) {
    const auto colour = [&](int64_t i) {
      return colours.select(1, i).view({M, 1, 1, 1});  // [M, 1, 1, 1]
    };
    video.select(1, channel)
        .mul_(behind)
        .addcmul_(plain, colour(channel))
        .addcmul_(marked, colour(3 + channel));
  }
}

// Renders clips of one size; each operation handles all of them. -> [N, 3, T, H, W] in [-1, 1]
at::Tensor render_together(const std::vector<ClipSpec>& specs, at::Device device) {
  at::Tensor video = render_backgrounds(specs, device).repeat({1, 1, specs[0].num_frames, 1, 1});
  for (size_t slot = 0; slot < 2; ++slot) {
    const Layer layer = sorted_layer(specs, slot);
    if (layer.clips.empty()) {
      continue;
    }
    const at::Tensor clips = at::tensor(layer.clips, at::kLong).to(device);
    at::Tensor part = video.index_select(0, clips);  // [M, 3, T, H, W]
    draw_layer(part, layer, specs[0]);
    video.index_copy_(0, clips, part);
  }
  return video.clamp_(0, 1).mul_(2).sub_(1);
}

}  // namespace

at::Tensor render_clips(const std::vector<ClipSpec>& specs, at::Device device) {
  TORCH_CHECK(!specs.empty(), "render_clips: expected at least one clip");
  for (const ClipSpec& clip : specs) {
    TORCH_CHECK(clip.height == specs[0].height && clip.width == specs[0].width &&
                    clip.num_frames == specs[0].num_frames,
                "render_clips: expected clips of one size");
  }
  const at::NoGradGuard no_grad;
  if (!device.is_cpu()) {
    return render_together(specs, device);
  }
  // On a CPU, render one clip at a time: its intermediate tensors stay in the cache.
  std::vector<at::Tensor> clips;
  clips.reserve(specs.size());
  for (const ClipSpec& clip : specs) {
    clips.push_back(render_together({clip}, device));
  }
  return clips.size() == 1 ? clips[0] : at::cat(clips);
}

}  // namespace ospnext
