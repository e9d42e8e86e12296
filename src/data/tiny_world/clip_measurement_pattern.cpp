// Decides the pattern of a background from the waves in its brightness.
// In shapes, T is the number of frames and H x W is a frame in pixels.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/tiny_world/clip_measurement_features.h"
#include "data/tiny_world/frame_masks.h"

namespace ospnext {
namespace {

constexpr int64_t kStep = 2;  // every second frame is enough: the pattern does not move

// 1 for pixels that no object or shadow covers, in every kStep-th of T frames. -> [n, H, W] float
at::Tensor visible_background(const std::vector<TrackedObject>& objects, int64_t T, int64_t H,
                              int64_t W) {
  at::Tensor visible = at::ones({(T + kStep - 1) / kStep, H, W});
  for (const TrackedObject& object : objects) {
    for (size_t t = 0; t < object.frames.size(); t += kStep) {
      const Silhouette& frame = object.frames[t];
      if (frame.area == 0) {
        continue;
      }
      const auto margin = static_cast<int64_t>(2 + 0.3 * std::sqrt(frame.area / std::numbers::pi));
      Mask wide = dilated(frame.pixels, H, W, margin);
      const at::Tensor covered = at::from_blob(wide.data(), {H, W}, at::kByte);
      visible[static_cast<int64_t>(t) / kStep].mul_(1 - covered.to(at::kFloat));
    }
  }
  return visible;
}

// Subtracts the plane that fits the image best; 0 where weight is 0. image, weight [H, W] -> [H, W]
// A tiny weight on small planes decides where many fit, as for pixels in a line. It is lost in
// float32, so the plane is found in float64.
at::Tensor without_slope(const at::Tensor& image, const at::Tensor& weight) {
  const int64_t H = image.size(0);
  const int64_t W = image.size(1);
  const at::TensorOptions wide = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor ones = at::ones({H, W}, wide);
  const at::Tensor basis = at::stack({ones, at::linspace(-1, 1, H, wide).view({H, 1}) * ones,
                                      at::linspace(-1, 1, W, wide).view({1, W}) * ones})
                               .view({3, H * W});                                       // [3, H*W]
  const at::Tensor weighted = basis * weight.view({1, H * W});                          // [3, H*W]
  const at::Tensor normal = at::matmul(weighted, basis.t()) + 1e-6 * at::eye(3, wide);  // [3, 3]
  const at::Tensor target =
      at::matmul(weighted, image.to(at::kDouble).reshape({H * W, 1}));  // [3, 1]
  const at::Tensor fit = at::matmul(at::linalg_solve(normal, target).t(), basis)
                             .to(at::kFloat)
                             .view({H, W});  // [H, W]
  return (image - fit) * weight;
}

// Largest power of the waves of 2.2 to 6 periods per shorter side along `direction` (in turns).
// image [H, W]
double wave_power(const at::Tensor& image, double direction) {
  const int64_t H = image.size(0);
  const int64_t W = image.size(1);
  const double shorter = static_cast<double>(std::min(H, W));
  const double turn = 2 * std::numbers::pi * direction;
  const at::Tensor frequencies = at::arange(2.2, 6.0, 0.1) * (2 * std::numbers::pi / shorter);
  const at::Tensor x = at::outer(frequencies, at::arange(W)) * std::cos(turn);         // [n, W]
  const at::Tensor y = at::outer(frequencies, at::arange(H)) * std::sin(turn);         // [n, H]
  const at::Tensor along_cos = at::matmul(image, x.cos().t());                         // [H, n]
  const at::Tensor along_sin = at::matmul(image, x.sin().t());                         // [H, n]
  const at::Tensor real = (along_cos * y.cos().t() - along_sin * y.sin().t()).sum(0);  // [n]
  const at::Tensor imaginary = (along_sin * y.cos().t() + along_cos * y.sin().t()).sum(0);  // [n]
  return (real.square() + imaginary.square()).max().item<double>();
}

}  // namespace

BackgroundPattern measure_pattern(const at::Tensor& video,
                                  const std::vector<TrackedObject>& objects) {
  constexpr double kPlainDeviation = 0.02;  // of brightness; a pattern has 0.04
  const at::Tensor visible =
      visible_background(objects, video.size(1), video.size(2), video.size(3));
  const at::Tensor count = visible.sum(0);  // [H, W]
  const at::Tensor weight = (count > 0).to(at::kFloat);
  const at::Tensor mean =
      (video.slice(1, 0, video.size(1), kStep).mean(0) * visible).sum(0) / count.clamp_min(1);
  const at::Tensor image = without_slope(mean, weight);
  const double area = weight.sum().item<double>();
  if (area == 0 || std::sqrt(image.square().sum().item<double>() / area) < kPlainDeviation) {
    return BackgroundPattern::kPlain;
  }
  std::array<double, 4> power{};
  for (size_t i = 0; i < power.size(); ++i) {
    power[i] = wave_power(image, static_cast<double>(i) / 8);
  }
  std::array<double, 4> sorted = power;
  std::ranges::sort(sorted, std::greater<>());
  if (sorted[0] > 3 * sorted[1]) {
    return BackgroundPattern::kStriped;
  }
  return power[0] + power[2] > power[1] + power[3] ? BackgroundPattern::kDotted
                                                   : BackgroundPattern::kChecked;
}

}  // namespace ospnext
