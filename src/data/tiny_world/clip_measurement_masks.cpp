// Finds the objects of a clip by colour, then their pixels: regions that grow from a coloured core.
// In shapes, T is the number of frames and H x W is a frame in pixels.
#include "data/tiny_world/clip_measurement_masks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "data/tiny_world/frame_masks.h"

namespace ospnext {
namespace {

constexpr double kForeground = 0.20;   // pixels that vote are at least this far from the background
constexpr double kColourMatch = 0.22;  // pixels that vote for a colour are at most this far from it
constexpr int64_t kColourStep = 4;     // colours are searched in every fourth frame
constexpr double kMarkShare = 0.12;    // largest share of an object's area that its mark takes

// Red, green and blue of the pixels of a clip, each [T * H * W] floats in [0, 1].
struct Planes {
  const float *red, *green, *blue;
  int64_t T, H, W;

  explicit Planes(const at::Tensor& video)  // [3, T, H, W] float32, contiguous
      : red(video.const_data_ptr<float>()),
        green(red + video.stride(0)),
        blue(green + video.stride(0)),
        T(video.size(1)),
        H(video.size(2)),
        W(video.size(3)) {}
  size_t pixels() const { return static_cast<size_t>(T * H * W); }
};

using Distances = std::vector<float>;  // of each pixel, [T * H * W]

float length(float r, float g, float b) {
  return std::sqrt(r * r + g * g + b * b);
}

struct Colour {
  explicit Colour(const Rgb& rgb)
      : r(static_cast<float>(rgb[0])),
        g(static_cast<float>(rgb[1])),
        b(static_cast<float>(rgb[2])) {}
  float r, g, b;

  // The distance to this colour, scaled by the brightness that fits best.
  float distance(float red, float green, float blue) const {
    const float light =
        std::clamp((red * r + green * g + blue * b) / (r * r + g * g + b * b), 0.78F, 1.12F);
    return length(red - light * r, green - light * g, blue - light * b);
  }
};

// Distance from the background's colour. Lighter and darker shades of it (patterns, shadows) count
// as the background.
Distances background_distance(const Planes& video, const Rgb& background) {
  const Colour own(background);
  Distances distances(video.pixels());
  for (size_t i = 0; i < distances.size(); ++i) {
    const float r = video.red[i] - own.r, g = video.green[i] - own.g, b = video.blue[i] - own.b;
    const float shade = std::clamp((r + g + b) / 3, -0.12F, 0.10F);
    distances[i] = length(r - shade, g - shade, b - shade);
  }
  return distances;
}

Distances colour_distance(const Planes& video, ObjectColour colour) {
  const Colour own(rgb(colour));
  Distances distances(video.pixels());
  for (size_t i = 0; i < distances.size(); ++i) {
    distances[i] = own.distance(video.red[i], video.green[i], video.blue[i]);
  }
  return distances;
}

// 1 where a distance is larger than `least`.
Mask farther(const Distances& distances, double least) {
  Mask mask(distances.size());
  const float* const from = distances.data();
  uint8_t* const to = mask.data();
  const size_t pixels = mask.size();
  const auto bound = static_cast<float>(least);
  for (size_t i = 0; i < pixels; ++i) {
    to[i] = from[i] > bound;
  }
  return mask;
}

// The object colour nearest to a pixel, and its distance.
std::pair<size_t, float> nearest_colour(float red, float green, float blue) {
  static const std::vector<Colour> colours = [] {
    std::vector<Colour> all;
    for (size_t i = 0; i < kNumColours; ++i) {
      all.emplace_back(rgb(static_cast<ObjectColour>(i)));
    }
    return all;
  }();
  std::pair<size_t, float> nearest{0, std::numeric_limits<float>::infinity()};
  for (size_t i = 0; i < kNumColours; ++i) {
    const float distance = colours[i].distance(red, green, blue);
    if (distance < nearest.second) {
      nearest = {i, distance};
    }
  }
  return nearest;
}

// The object colour nearest to the colour of the mark on an object of `colour`.
size_t looks_of_mark(ObjectColour colour) {
  const Colour mark(mark_rgb(colour));
  return nearest_colour(mark.r, mark.g, mark.b).first;
}

// The `num_objects` colours with the most votes of pixels. Votes that can come from the marks of
// objects of another colour are subtracted first.
// inside: 1 for pixels of the foreground that have only such neighbours
std::vector<ObjectColour> vote_colours(const Planes& video, const Mask& inside,
                                       int64_t num_objects) {
  std::vector<double> all(kNumColours, 0);
  for (int64_t t = 0; t < video.T; t += kColourStep) {
    const int64_t frame = video.H * video.W;
    each_set(inside, t * frame, (t + 1) * frame, [&](int64_t i) {
      const auto [colour, distance] = nearest_colour(video.red[i], video.green[i], video.blue[i]);
      all[colour] += distance < static_cast<float>(kColourMatch) ? 1 : 0;
    });
  }
  std::vector<double> votes = all;
  for (size_t i = 0; i < kNumColours; ++i) {
    votes[looks_of_mark(static_cast<ObjectColour>(i))] -= kMarkShare * all[i];
  }
  std::vector<size_t> order(kNumColours);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>(), [&](size_t i) { return votes[i]; });
  std::vector<ObjectColour> colours;
  for (const size_t i : order) {
    if (static_cast<int64_t>(colours.size()) < num_objects && votes[i] > 0) {
      colours.push_back(static_cast<ObjectColour>(i));
    }
  }
  return colours;
}

// The pixel grid of a frame, for flood fills. Pixel i is at row i / W, column i % W.
struct Grid {
  int64_t H, W;

  // Column and row of pixel i.
  double x(int64_t i) const { return static_cast<double>(i % W); }
  double y(int64_t i) const {
    const int64_t row = i / W;
    return static_cast<double>(row);
  }

  // Visits the four neighbours of pixel i.
  template <class Visit>
  void neighbours(int64_t i, Visit&& visit) const {
    const uint32_t column = static_cast<uint32_t>(i) % static_cast<uint32_t>(W);  // fast division
    if (column > 0) {
      visit(i - 1);
    }
    if (column + 1 < static_cast<uint32_t>(W)) {
      visit(i + 1);
    }
    if (i >= W) {
      visit(i - W);
    }
    if (i + W < H * W) {
      visit(i + W);
    }
  }
};

// The pixels of the largest connected part of those that are 1. mask [H * W]
std::vector<int64_t> largest_part(const Grid& grid, Mask mask) {
  std::vector<int64_t> best;
  each_set(mask, [&](int64_t start) {
    std::vector<int64_t> part{start};
    mask[start] = 0;
    for (size_t next = 0; next < part.size(); ++next) {
      grid.neighbours(part[next], [&](int64_t i) {
        if (mask[i] != 0) {
          mask[i] = 0;
          part.push_back(i);
        }
      });
    }
    if (part.size() > best.size()) {
      best = std::move(part);
    }
  });
  return best;
}

// `pixels` with its holes filled. A hole cannot be reached from the frame's border without crossing
// `pixels`. [H * W] -> [H * W]
Mask with_holes_filled(const Grid& grid, const Mask& pixels) {
  Mask filled(pixels.size(), 1);
  std::vector<int64_t> outside;
  const auto reach = [&](int64_t i) {
    if (filled[i] != 0 && pixels[i] == 0) {
      filled[i] = 0;
      outside.push_back(i);
    }
  };
  for (int64_t x = 0; x < grid.W; ++x) {
    reach(x);
    reach((grid.H - 1) * grid.W + x);
  }
  for (int64_t y = 0; y < grid.H; ++y) {
    reach(y * grid.W);
    reach(y * grid.W + grid.W - 1);
  }
  for (size_t next = 0; next < outside.size(); ++next) {
    grid.neighbours(outside[next], reach);
  }
  return filled;
}

// pixels: not empty
Box box_around(const Grid& grid, const std::vector<int64_t>& pixels) {
  Box box{.top = grid.H, .bottom = 0, .left = grid.W, .right = 0};
  for (const int64_t i : pixels) {
    const int64_t row = i / grid.W, column = i % grid.W;
    box = {.top = std::min(box.top, row),
           .bottom = std::max(box.bottom, row + 1),
           .left = std::min(box.left, column),
           .right = std::max(box.right, column + 1)};
  }
  return box;
}

// What lies outside the box of an object is no hole, so only the box is looked at.
Silhouette make_silhouette(const Grid& grid, const std::vector<int64_t>& pixels) {
  Silhouette silhouette;
  silhouette.pixels.assign(static_cast<size_t>(grid.H * grid.W), 0);
  if (pixels.empty()) {
    return silhouette;
  }
  const Box box = box_around(grid, pixels);
  silhouette.box = box;
  const Grid part{box.bottom - box.top, box.right - box.left};
  Mask own(static_cast<size_t>(part.H * part.W), 0);
  for (const int64_t i : pixels) {
    own[(i / grid.W - box.top) * part.W + i % grid.W - box.left] = 1;
  }
  const Mask filled = with_holes_filled(part, own);
  int64_t area = 0, x = 0, y = 0;  // sums over pixels: x of columns, y of rows
  for (int64_t row = 0; row < part.H; ++row) {
    const uint8_t* const from = filled.data() + row * part.W;
    std::copy_n(from, part.W, silhouette.pixels.data() + (box.top + row) * grid.W + box.left);
    int64_t inside = 0;
    for (int64_t column = 0; column < part.W; ++column) {
      inside += from[column];
      x += from[column] * (box.left + column);
    }
    area += inside;
    y += inside * (box.top + row);
  }
  const double half = 0.5 * static_cast<double>(area);  // centres of pixels
  silhouette.area = static_cast<double>(area);
  silhouette.x = (static_cast<double>(x) + half) / silhouette.area;
  silhouette.y = (static_cast<double>(y) + half) / silhouette.area;
  silhouette.hole = 1 - static_cast<double>(pixels.size()) / silhouette.area;
  return silhouette;
}

// A predicate: whether a pixel lies within the circle around `pixels` (centre: their mean).
auto circle_around(const Grid& grid, const std::vector<int64_t>& pixels) {
  double x = 0;
  double y = 0;
  for (const int64_t i : pixels) {
    x += grid.x(i) / static_cast<double>(pixels.size());
    y += grid.y(i) / static_cast<double>(pixels.size());
  }
  const auto distance = [=](int64_t i) { return std::hypot(grid.x(i) - x, grid.y(i) - y); };
  double radius = -1;
  for (const int64_t i : pixels) {
    radius = std::max(radius, distance(i));
  }
  return [=](int64_t i) { return distance(i) <= radius; };
}

// 1 for the pixels whose nearest colour is that of the object and near enough, if they are not
// background. own: per object, [H * W] distances to its colour; cover [H * W] of this object
Mask core_mask(const std::vector<const float*>& own, size_t object, const uint8_t* cover,
               size_t pixels) {
  Mask mask(cover, cover + pixels);
  const float* const distances = own[object];
  uint8_t* const to = mask.data();
  for (const float* other : own) {
    for (size_t i = 0; other != distances && i < pixels; ++i) {
      to[i] &= static_cast<uint8_t>(distances[i] <= other[i]);
    }
  }
  for (size_t i = 0; i < pixels; ++i) {
    to[i] &= static_cast<uint8_t>(distances[i] < static_cast<float>(kColourMatch));
  }
  return mask;
}

// Each object's core: the largest connected part of pixels of its colour. The first object's mark
// can have the colour of the second object. So the second core is searched outside the circle
// around the first, and everywhere only if nothing is found there.
// own: per object, [H * W] distances to its colour; cover: per object, [H * W], 1 where the pixel
// is not background
std::vector<std::vector<int64_t>> find_cores(const Grid& grid, const std::vector<const float*>& own,
                                             const std::vector<const uint8_t*>& cover) {
  const auto pixels = static_cast<size_t>(grid.H * grid.W);
  std::vector<std::vector<int64_t>> cores{largest_part(grid, core_mask(own, 0, cover[0], pixels))};
  if (own.size() == 2) {
    const Mask second = core_mask(own, 1, cover[1], pixels);
    const auto taken = circle_around(grid, cores[0]);
    Mask around = second;
    each_set(around, [&](int64_t i) { around[i] = static_cast<uint8_t>(!taken(i)); });
    auto core = largest_part(grid, std::move(around));
    if (core.empty()) {
      core = largest_part(grid, second);
    }
    cores.push_back(std::move(core));
  }
  return cores;
}

// The pixels of each object in one frame. The cores grow over all pixels that are not background,
// so a mark belongs to the object around it. own and cover: see find_cores().
std::vector<Silhouette> segment_frame(const Grid& grid, const std::vector<const float*>& own,
                                      const std::vector<const uint8_t*>& cover) {
  const size_t count = own.size();
  const auto cores = find_cores(grid, own, cover);
  Mask taken(grid.H * grid.W, 0);
  std::vector<std::pair<int64_t, size_t>> reached;  // pixels and their objects
  for (size_t object = 0; object < count; ++object) {
    for (const int64_t i : cores[object]) {
      taken[i] = 1;
      reached.emplace_back(i, object);
    }
  }
  std::vector<std::vector<int64_t>> parts(count);  // of each object
  for (size_t next = 0; next < reached.size(); ++next) {
    const auto [pixel, object] = reached[next];
    parts[object].push_back(pixel);
    grid.neighbours(pixel, [&, object = object](int64_t i) {
      if (taken[i] == 0 && cover[object][i] != 0) {
        taken[i] = 1;
        reached.emplace_back(i, object);
      }
    });
  }
  std::vector<Silhouette> silhouettes;
  silhouettes.reserve(count);
  for (const auto& part : parts) {
    silhouettes.push_back(make_silhouette(grid, part));
  }
  return silhouettes;
}

// Median distance from the background of the inner pixels of the object's colour, at least
// kForeground; 1 when there are no such pixels.
// own, foreground: distances to the object's colour and from the background
double contrast(const Distances& own, const Distances& foreground, const Mask& inside) {
  Distances core;
  each_set(inside, [&](int64_t i) {
    if (own[i] < static_cast<float>(kColourMatch)) {
      core.push_back(foreground[i]);
    }
  });
  if (core.empty()) {
    return 1;
  }
  const auto median = core.begin() + (std::ssize(core) - 1) / 2;
  std::ranges::nth_element(core, median);
  return std::max(static_cast<double>(*median), kForeground);
}

// 1 for pixels that are not background: far enough from its colour, or nearer to the mark's colour
// than half the distance between the two. Gaps of up to two pixels are closed, for instance between
// a white mark and a red object on pink.
Mask object_cover(const Planes& video, const Distances& foreground, double least,
                  const Colour& mark, const Colour& background) {
  Mask cover = farther(foreground, least);
  const float half =
      0.5F * length(mark.r - background.r, mark.g - background.g, mark.b - background.b);
  const Planes planes = video;  // copies, which the bytes written below cannot change
  const Colour own = mark;
  const size_t pixels = cover.size();
  uint8_t* const to = cover.data();
  for (size_t i = 0; i < pixels; ++i) {
    to[i] |= static_cast<uint8_t>(
        length(planes.red[i] - own.r, planes.green[i] - own.g, planes.blue[i] - own.b) < half);
  }
  return eroded(dilated(cover, video.H, video.W, 1), video.H, video.W, 1);
}

}  // namespace

Rgb border_colour(const at::Tensor& video) {
  const at::Tensor frames = video.slice(1, 0, video.size(1), kColourStep);
  const int64_t H = frames.size(2);
  const int64_t W = frames.size(3);
  const int64_t shorter = std::min(H, W);
  const int64_t band = std::min(shorter, std::max<int64_t>(2, shorter / 16));
  const at::Tensor border =
      at::cat({frames.narrow(2, 0, band).flatten(1), frames.narrow(2, H - band, band).flatten(1),
               frames.narrow(3, 0, band).flatten(1), frames.narrow(3, W - band, band).flatten(1)},
              1);  // [3, n], n pixels of the border
  const at::Tensor median = std::get<0>(border.median(1));
  return {median[0].item<float>(), median[1].item<float>(), median[2].item<float>()};
}

std::vector<TrackedObject> track_objects(const at::Tensor& video, const Rgb& background,
                                         int64_t num_objects) {
  const Planes planes(video);
  const Grid grid{planes.H, planes.W};
  const Distances foreground = background_distance(planes, background);
  const Mask inside = eroded(farther(foreground, kForeground), planes.H, planes.W, 1);
  const auto colours = vote_colours(planes, inside, num_objects);

  std::vector<TrackedObject> objects(num_objects);
  std::vector<Distances> own;
  std::vector<Mask> cover;
  for (size_t i = 0; i < colours.size(); ++i) {
    objects[i].colour = colours[i];
    own.push_back(colour_distance(planes, colours[i]));
    cover.push_back(object_cover(planes, foreground, 0.5 * contrast(own[i], foreground, inside),
                                 Colour(mark_rgb(colours[i])), Colour(background)));
  }
  for (int64_t t = 0; t < planes.T && !colours.empty(); ++t) {
    std::vector<const float*> own_frame;
    std::vector<const uint8_t*> cover_frame;
    for (size_t i = 0; i < colours.size(); ++i) {
      own_frame.push_back(own[i].data() + t * grid.H * grid.W);
      cover_frame.push_back(cover[i].data() + t * grid.H * grid.W);
    }
    auto silhouettes = segment_frame(grid, own_frame, cover_frame);
    for (size_t i = 0; i < colours.size(); ++i) {
      objects[i].frames.push_back(std::move(silhouettes[i]));
    }
  }
  return objects;
}

}  // namespace ospnext
