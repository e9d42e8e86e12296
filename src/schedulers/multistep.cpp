#include "schedulers/multistep.h"

#include <cmath>

namespace ospnext {
namespace {

// The right-hand sides of the 2 x 2 system that gives the weights of UniC, UniPC's corrector, for a
// step of length h in lambda. For short steps both formulas lose all digits. There a series
// replaces them; its first omitted term is below 1e-12.
struct CorrectorMoments {
  double first;   // ((e^-h - 1) / -h - 1) / (e^-h - 1): 1/2 for short steps
  double second;  // 2 (((e^-h - 1) / -h - 1) / -h - 1/2) / (e^-h - 1): 1/3 for short steps
};

CorrectorMoments corrector_moments(double h) {
  constexpr double kShort = 1e-2;
  if (h < kShort) {
    return {1.0 / 2 + h / 12 - h * h * h / 720, 1.0 / 3 + h / 12 + h * h / 360 - h * h * h / 720};
  }
  const double decay = std::expm1(-h);
  const double first = decay / -h - 1;
  return {first / decay, 2 * (first / -h - 1.0 / 2) / decay};
}

}  // namespace

double half_log_snr(double sigma) {
  return std::log1p(-sigma) - std::log(sigma);
}

at::Tensor clean_estimate(const at::Tensor& latent, const at::Tensor& velocity, double sigma) {
  return latent.to(torch::kFloat32) - sigma * velocity.to(torch::kFloat32);
}

at::Tensor toward_clean(const at::Tensor& latent, const at::Tensor& clean, double from, double to) {
  const double rest = to / from;
  return rest * latent.to(torch::kFloat32) + (1 - rest) * clean;
}

at::Tensor extrapolated_clean(const at::Tensor& clean, const at::Tensor& earlier, double before,
                              double from, double to) {
  const double last_length = half_log_snr(from) - half_log_snr(before);  // infinite if before is 1
  const double length = half_log_snr(to) - half_log_snr(from);
  return clean + 0.5 * length / last_length * (clean - earlier);
}

at::Tensor corrected_clean(const at::Tensor& clean, const at::Tensor& arrived) {
  return clean + 0.5 * (arrived - clean);
}

at::Tensor corrected_clean(const at::Tensor& clean, const at::Tensor& arrived,
                           const at::Tensor& earlier, double before, double from, double to) {
  const double length = half_log_snr(to) - half_log_snr(from);
  const double back = (half_log_snr(before) - half_log_snr(from)) / length;  // negative
  const CorrectorMoments moments = corrector_moments(length);
  const double past = (moments.first - moments.second) / (1 - back);
  return clean + past / back * (earlier - clean) + (moments.first - past) * (arrived - clean);
}

}  // namespace ospnext
