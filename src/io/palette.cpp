#include "io/palette.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

constexpr int kBinBits = 5, kPairBits = 6;

size_t cell_of(const uint8_t* pixel, int bits) {
  const int drop = 8 - bits;
  return static_cast<size_t>(pixel[0] >> drop) << (2 * bits) |
         static_cast<size_t>(pixel[1] >> drop) << bits | static_cast<size_t>(pixel[2] >> drop);
}

double dot(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

// 8x8 thresholds in (0, 1), all different. Source: B. Bayer, An Optimum Method for Two-Level
// Rendition of Continuous-Tone Pictures, IEEE ICC 1973.
std::array<float, 64> bayer_thresholds() {
  std::array<float, 64> thresholds{};
  for (int row = 0; row < 8; ++row) {
    for (int column = 0; column < 8; ++column) {
      int rank = 0;
      for (int bit = 0; bit < 3; ++bit) {
        const int low = ((row ^ column) >> bit & 1) << 1 | (row >> bit & 1);
        rank |= low << (2 * (2 - bit));
      }
      thresholds[static_cast<size_t>(row * 8 + column)] = (static_cast<float>(rank) + 0.5f) / 64;
    }
  }
  return thresholds;
}

}  // namespace

// Bins that share one colour: their sums, and the squared error of replacing all by the mean.
struct PaletteMaker::Box {
  std::vector<const Bin*> bins;
  Bin total;
  double error = 0;

  static double error_of(const Bin& sums) {
    return sums.count > 0 ? sums.square - dot(sums.sum, sums.sum) / sums.count : 0;
  }
  static void add_to(Bin& sums, const Bin& bin, double sign) {
    sums.count += sign * bin.count;
    sums.square += sign * bin.square;
    for (size_t axis = 0; axis < 3; ++axis) {
      sums.sum[axis] += sign * bin.sum[axis];
    }
  }

  explicit Box(std::vector<const Bin*> all) : bins(std::move(all)) {
    for (const Bin* bin : bins) {
      add_to(total, *bin, 1);
    }
    error = error_of(total);
  }

  // Keeps one half and returns the other. The box must have at least two bins.
  Box cut() {
    double best_error = std::numeric_limits<double>::infinity();
    size_t best_place = 1;
    std::vector<const Bin*> best_order;
    for (size_t axis = 0; axis < 3; ++axis) {
      std::vector<const Bin*> order = bins;
      std::stable_sort(order.begin(), order.end(), [axis](const Bin* a, const Bin* b) {
        return a->sum[axis] / a->count < b->sum[axis] / b->count;
      });
      Bin low, high = total;
      for (size_t place = 1; place < order.size(); ++place) {
        add_to(low, *order[place - 1], 1);
        add_to(high, *order[place - 1], -1);
        const double left = error_of(low) + error_of(high);
        if (left < best_error) {
          best_error = left;
          best_place = place;
          best_order = order;
        }
      }
    }
    const auto middle = best_order.begin() + static_cast<std::ptrdiff_t>(best_place);
    Box other({middle, best_order.end()});
    *this = Box({best_order.begin(), middle});
    return other;
  }
};

PaletteMaker::PaletteMaker() : bins_(size_t{1} << (3 * kBinBits)) {}

void PaletteMaker::add(const at::Tensor& pixels) {
  const auto* pixel = pixels.const_data_ptr<uint8_t>();
  for (const uint8_t* end = pixel + pixels.numel(); pixel < end; pixel += 3) {
    Bin& bin = bins_[cell_of(pixel, kBinBits)];
    bin.count += 1;
    for (size_t axis = 0; axis < 3; ++axis) {
      bin.sum[axis] += pixel[axis];
      bin.square += pixel[axis] * pixel[axis];
    }
  }
}

std::vector<Colour> PaletteMaker::palette(size_t count) const {
  std::vector<const Bin*> used;
  for (const Bin& bin : bins_) {
    if (bin.count > 0) {
      used.push_back(&bin);
    }
  }
  if (used.empty()) {
    return {Colour{}};
  }
  std::vector<Box> boxes;
  boxes.emplace_back(std::move(used));
  while (boxes.size() < count) {
    Box* worst = nullptr;
    for (Box& box : boxes) {
      if (box.bins.size() > 1 && (worst == nullptr || box.error > worst->error)) {
        worst = &box;
      }
    }
    if (worst == nullptr) {
      break;  // every box has only one bin left
    }
    Box other = worst->cut();
    boxes.push_back(std::move(other));
  }
  std::vector<Colour> colours;
  for (const Box& box : boxes) {
    Colour colour;
    for (size_t axis = 0; axis < 3; ++axis) {
      colour[axis] = static_cast<uint8_t>(std::lround(box.total.sum[axis] / box.total.count));
    }
    colours.push_back(colour);
  }
  return colours;
}

PaletteDrawing::PaletteDrawing(std::vector<Colour> palette)
    : palette_(std::move(palette)), pairs_(size_t{1} << (3 * kPairBits)) {
  TORCH_CHECK(!palette_.empty() && palette_.size() <= 256, "a palette has 1 to 256 colours");
}

// The two colours for the centre of a cell: the nearest colour, and the colour that mixes best with
// it. Mixing very different colours gives a coarse pattern, so a tenth of the mixture's variance is
// added to its error.
const PaletteDrawing::Pair& PaletteDrawing::pair_for(const uint8_t* pixel) {
  Pair& pair = pairs_[cell_of(pixel, kPairBits)];
  if (pair.known) {
    return pair;
  }
  constexpr int kDrop = 8 - kPairBits;
  std::array<double, 3> centre{};
  for (size_t axis = 0; axis < 3; ++axis) {
    centre[axis] = ((pixel[axis] >> kDrop) << kDrop) + ((1 << kDrop) - 1) / 2.0;
  }
  const auto towards = [](const std::array<double, 3>& from, const Colour& to) {
    return std::array<double, 3>{to[0] - from[0], to[1] - from[1], to[2] - from[2]};
  };
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < palette_.size(); ++i) {
    const auto way = towards(centre, palette_[i]);
    if (dot(way, way) < least) {
      least = dot(way, way);
      pair.nearest = pair.other = static_cast<uint8_t>(i);
    }
  }
  const Colour& nearest = palette_[pair.nearest];
  const std::array<double, 3> from{double(nearest[0]), double(nearest[1]), double(nearest[2])};
  const std::array<double, 3> wanted{centre[0] - from[0], centre[1] - from[1], centre[2] - from[2]};
  for (size_t i = 0; i < palette_.size(); ++i) {
    const auto way = towards(from, palette_[i]);
    const double length = dot(way, way);
    const double share = length > 0 ? dot(wanted, way) / length : 0;
    if (share <= 0) {
      continue;
    }
    const double missed = dot(wanted, wanted) - share * share * length;
    const double cost = missed + 0.1 * share * (1 - share) * length;
    if (cost < least) {
      least = cost;
      pair.other = static_cast<uint8_t>(i);
    }
  }
  pair.known = true;
  return pair;
}

at::Tensor PaletteDrawing::draw(const at::Tensor& pixels) {
  CHECK_SHAPE(pixels, -1, -1, 3);
  static const std::array<float, 64> thresholds = bayer_thresholds();
  const int64_t height = pixels.size(0), width = pixels.size(1);
  at::Tensor indices = torch::empty({height, width}, torch::kUInt8);  // [H, W]
  const auto* pixel = pixels.const_data_ptr<uint8_t>();
  auto* index = indices.data_ptr<uint8_t>();
  for (int64_t row = 0; row < height; ++row) {
    for (int64_t column = 0; column < width; ++column, pixel += 3, ++index) {
      const Pair& pair = pair_for(pixel);
      const Colour& a = palette_[pair.nearest];
      const Colour& b = palette_[pair.other];
      int along = 0, length = 0;
      for (size_t axis = 0; axis < 3; ++axis) {
        along += (pixel[axis] - a[axis]) * (b[axis] - a[axis]);
        length += (b[axis] - a[axis]) * (b[axis] - a[axis]);
      }
      const float threshold = thresholds[static_cast<size_t>(row % 8 * 8 + column % 8)];
      const bool other = static_cast<float>(along) > threshold * static_cast<float>(length);
      *index = other ? pair.other : pair.nearest;
    }
  }
  return indices;
}

}  // namespace ospnext
