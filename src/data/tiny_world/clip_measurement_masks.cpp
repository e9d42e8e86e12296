// Finds the objects of a clip by colour, then their pixels: regions that grow from a coloured core.
// In shapes, T is the number of frames and H x W is a frame in pixels.
#include "data/tiny_world/clip_measurement_masks.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <numeric>

namespace ospnext {
namespace {

constexpr double kForeground = 0.20;   // pixels that vote are at least this far from the background
constexpr double kColourMatch = 0.22;  // pixels that vote for a colour are at most this far from it
constexpr int64_t kColourStep = 4;     // colours are searched in every fourth frame
constexpr double kMarkShare = 0.12;    // largest share of an object's area that its mark takes

at::Tensor as_column(const Rgb& colour) {
  return at::tensor({colour[0], colour[1], colour[2]}).view({3, 1, 1, 1});  // [3, 1, 1, 1]
}

// Distance from the background's colour. Lighter and darker shades of it (patterns, shadows) count
// as the background.
// video [3, T, H, W] -> [T, H, W]
at::Tensor background_distance(const at::Tensor& video, const Rgb& background) {
  const at::Tensor difference = video - as_column(background);
  const at::Tensor shade = difference.mean(0).clamp_(-0.12, 0.10);
  return (difference - shade).square_().sum(0).sqrt_();
}

// Distance of each pixel to an object colour, scaled by the brightness that fits best.
// video [3, T, H, W] -> [T, H, W]
at::Tensor colour_distance(const at::Tensor& video, ObjectColour colour) {
  const at::Tensor column = as_column(rgb(colour));
  const double norm = column.square().sum().item<double>();
  const at::Tensor light = (video * column).sum(0).div_(norm).clamp_(0.78, 1.12);
  return (video - light * column).square_().sum(0).sqrt_();
}

// The distance to every object colour. -> [kNumColours, T, H, W]
at::Tensor colour_distances(const at::Tensor& video) {
  std::vector<at::Tensor> distances;
  for (size_t i = 0; i < kNumColours; ++i) {
    distances.push_back(colour_distance(video, static_cast<ObjectColour>(i)));
  }
  return at::stack(distances);
}

// Keeps the pixels with all 8 neighbours set. mask [T, H, W] float -> same
at::Tensor eroded(const at::Tensor& mask) {
  return -at::max_pool2d(-mask, {3, 3}, {1, 1}, {1, 1});
}

// The object colour nearest to the colour of the mark on an object of `colour`.
size_t looks_of_mark(ObjectColour colour) {
  return colour_distances(as_column(mark_rgb(colour)))
      .flatten()  // [kNumColours]
      .argmin()
      .item<int64_t>();
}

// The `num_objects` colours with the most votes of pixels. Votes that can come from the marks of
// objects of another colour are subtracted first.
// video [3, T, H, W]; foreground [T, H, W], the distance from the background
std::vector<ObjectColour> vote_colours(const at::Tensor& video, const at::Tensor& foreground,
                                       int64_t num_objects) {
  const at::Tensor distances = colour_distances(video);
  const at::Tensor inside = eroded((foreground > kForeground).to(at::kFloat));  // [T, H, W]
  const auto [nearest, winner] = distances.min(0);
  const at::Tensor valid = (nearest < kColourMatch).logical_and_(inside > 0.5);
  const at::Tensor counts =
      at::bincount(winner.masked_select(valid), {}, kNumColours).to(at::kDouble);
  const std::vector<double> all(counts.data_ptr<double>(), counts.data_ptr<double>() + kNumColours);
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
    const int64_t column = i % W;
    if (column > 0) {
      visit(i - 1);
    }
    if (column + 1 < W) {
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

// The pixels of the largest connected part of the pixels i for which is_set(i) is true.
template <class Predicate>
std::vector<int64_t> largest_part(const Grid& grid, Predicate&& is_set) {
  std::vector<uint8_t> seen(grid.H * grid.W, 0);
  std::vector<int64_t> best;
  for (int64_t start = 0; start < grid.H * grid.W; ++start) {
    if (seen[start] != 0 || !is_set(start)) {
      continue;
    }
    std::vector<int64_t> part{start};
    seen[start] = 1;
    for (size_t next = 0; next < part.size(); ++next) {
      grid.neighbours(part[next], [&](int64_t i) {
        if (seen[i] == 0 && is_set(i)) {
          seen[i] = 1;
          part.push_back(i);
        }
      });
    }
    if (part.size() > best.size()) {
      best = std::move(part);
    }
  }
  return best;
}

// `pixels` with its holes filled. A hole cannot be reached from the frame's border without crossing
// `pixels`. [H * W] -> [H * W]
std::vector<uint8_t> with_holes_filled(const Grid& grid, const std::vector<uint8_t>& pixels) {
  std::vector<uint8_t> filled(pixels.size(), 1);
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

Silhouette make_silhouette(const Grid& grid, const std::vector<uint8_t>& pixels) {
  Silhouette silhouette;
  silhouette.pixels = with_holes_filled(grid, pixels);
  double covered = 0;
  for (int64_t i = 0; i < grid.H * grid.W; ++i) {
    covered += pixels[i];
    silhouette.area += silhouette.pixels[i];
    silhouette.x += silhouette.pixels[i] * (grid.x(i) + 0.5);
    silhouette.y += silhouette.pixels[i] * (grid.y(i) + 0.5);
  }
  if (silhouette.area > 0) {
    silhouette.x /= silhouette.area;
    silhouette.y /= silhouette.area;
    silhouette.hole = 1 - covered / silhouette.area;
  }
  return silhouette;
}

// A predicate: whether a pixel lies within the circle around `pixels` (centre: their mean).
std::function<bool(int64_t)> circle_around(const Grid& grid, const std::vector<int64_t>& pixels) {
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

// Each object's core: the largest connected part of pixels of its colour. The first object's mark
// can have the colour of the second object. So the second core is searched outside the circle
// around the first, and everywhere only if nothing is found there.
// own: per object, [H * W] distances to its colour; cover: per object, [H * W], 1 where the pixel
// is not background
std::vector<std::vector<int64_t>> find_cores(const Grid& grid, const std::vector<const float*>& own,
                                             const std::vector<const float*>& cover) {
  const auto is_core = [&](size_t object, int64_t i) {
    const bool nearest =
        std::ranges::all_of(own, [&](const float* other) { return own[object][i] <= other[i]; });
    return nearest && own[object][i] < kColourMatch && cover[object][i] > 0.5F;
  };
  std::vector<std::vector<int64_t>> cores{
      largest_part(grid, [&](int64_t i) { return is_core(0, i); })};
  if (own.size() == 2) {
    const auto taken = circle_around(grid, cores[0]);
    auto core = largest_part(grid, [&](int64_t i) { return is_core(1, i) && !taken(i); });
    if (core.empty()) {
      core = largest_part(grid, [&](int64_t i) { return is_core(1, i); });
    }
    cores.push_back(std::move(core));
  }
  return cores;
}

// The pixels of each object in one frame. The cores grow over all pixels that are not background,
// so a mark belongs to the object around it. own and cover: see find_cores().
std::vector<Silhouette> segment_frame(const Grid& grid, const std::vector<const float*>& own,
                                      const std::vector<const float*>& cover) {
  const size_t count = own.size();
  const auto cores = find_cores(grid, own, cover);
  std::vector<std::vector<uint8_t>> masks(count, std::vector<uint8_t>(grid.H * grid.W, 0));
  std::vector<uint8_t> taken(grid.H * grid.W, 0);
  std::deque<std::pair<int64_t, size_t>> front;
  for (size_t object = 0; object < count; ++object) {
    for (const int64_t i : cores[object]) {
      taken[i] = 1;
      masks[object][i] = 1;
      front.emplace_back(i, object);
    }
  }
  while (!front.empty()) {
    const auto [pixel, object] = front.front();
    front.pop_front();
    grid.neighbours(pixel, [&, object = object](int64_t i) {
      if (taken[i] == 0 && cover[object][i] > 0.5F) {
        taken[i] = 1;
        masks[object][i] = 1;
        front.emplace_back(i, object);
      }
    });
  }
  std::vector<Silhouette> silhouettes;
  silhouettes.reserve(count);
  for (const auto& mask : masks) {
    silhouettes.push_back(make_silhouette(grid, mask));
  }
  return silhouettes;
}

// Closes gaps of up to two pixels, for instance between a white mark and a red object on pink.
// mask [T, H, W] -> same
at::Tensor closed(const at::Tensor& mask) {
  return eroded(at::max_pool2d(mask, {3, 3}, {1, 1}, {1, 1}));
}

// Pixels nearer to the mark's colour than half its distance from the background's colour.
// video [3, T, H, W] -> [T, H, W] bool
at::Tensor mark_cover(const at::Tensor& video, const Rgb& mark, const Rgb& background) {
  const at::Tensor length = (as_column(mark) - as_column(background)).square().sum().sqrt();
  return (video - as_column(mark)).square_().sum(0).sqrt_() < 0.5 * length;
}

// Median distance from the background of the inner pixels of the object's colour, at least
// kForeground; 1 when there are no such pixels.
// own, foreground [T, H, W]: distances to the object's colour and from the background
double contrast(const at::Tensor& own, const at::Tensor& foreground) {
  const at::Tensor core = foreground.masked_select(
      (own < kColourMatch).logical_and_(eroded((foreground > kForeground).to(at::kFloat)) > 0.5));
  return core.numel() == 0 ? 1.0 : std::max(core.median().item<double>(), kForeground);
}

}  // namespace

Rgb border_colour(const at::Tensor& video) {
  const at::Tensor frames = video.slice(1, 0, video.size(1), kColourStep);
  const int64_t H = frames.size(2);
  const int64_t W = frames.size(3);
  const int64_t band = std::max<int64_t>(2, std::min(H, W) / 16);
  const at::Tensor border =
      at::cat({frames.narrow(2, 0, band).flatten(1), frames.narrow(2, H - band, band).flatten(1),
               frames.narrow(3, 0, band).flatten(1), frames.narrow(3, W - band, band).flatten(1)},
              1);  // [3, n], n pixels of the border
  const at::Tensor median = std::get<0>(border.median(1));
  return {median[0].item<float>(), median[1].item<float>(), median[2].item<float>()};
}

std::vector<TrackedObject> track_objects(const at::Tensor& video, const Rgb& background,
                                         int64_t num_objects) {
  const Grid grid{video.size(2), video.size(3)};
  const int64_t T = video.size(1);
  const at::Tensor foreground = background_distance(video, background);  // [T, H, W]
  const auto colours = vote_colours(video.slice(1, 0, T, kColourStep),
                                    foreground.slice(0, 0, T, kColourStep), num_objects);

  std::vector<TrackedObject> objects(num_objects);
  std::vector<at::Tensor> own;
  std::vector<at::Tensor> cover;
  for (size_t i = 0; i < colours.size(); ++i) {
    objects[i].colour = colours[i];
    own.push_back(colour_distance(video, colours[i]));
    const at::Tensor is_cover =
        (foreground > 0.5 * contrast(own[i], foreground))
            .logical_or_(mark_cover(video, mark_rgb(colours[i]), background));
    cover.push_back(closed(is_cover.to(at::kFloat)));
  }
  for (int64_t t = 0; t < T && !colours.empty(); ++t) {
    std::vector<const float*> own_frame;
    std::vector<const float*> cover_frame;
    for (size_t i = 0; i < colours.size(); ++i) {
      own_frame.push_back(own[i].data_ptr<float>() + t * grid.H * grid.W);
      cover_frame.push_back(cover[i].data_ptr<float>() + t * grid.H * grid.W);
    }
    auto silhouettes = segment_frame(grid, own_frame, cover_frame);
    for (size_t i = 0; i < colours.size(); ++i) {
      objects[i].frames.push_back(std::move(silhouettes[i]));
    }
  }
  return objects;
}

}  // namespace ospnext
