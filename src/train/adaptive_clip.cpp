#include "train/adaptive_clip.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/number_check.h"
#include "core/torch/torch.h"

namespace ospnext {

AdaptiveClip::AdaptiveClip(double initial_norm, double decay)
    : initial_norm_(initial_norm), decay_(decay) {
  TORCH_CHECK(initial_norm > 0 && initial_norm <= 1000, "initial_norm: expected over 0 to 1000");
  TORCH_CHECK(decay >= 0 && decay < 1, "decay: expected 0 to below 1");
}

double AdaptiveClip::coefficient(double norm) {
  if (!std::isfinite(norm) || norm < 0) {
    throw RunError("found the gradient norm " + std::to_string(norm) +
                   ", expected a finite number from 0 on");
  }
  auto& [largest_norm, mean, variance] = state_;
  if (!state_.begun()) {
    mean = std::min(initial_norm_, 3 * norm);
    variance = 0;
  }
  largest_norm = state_.begun() ? mean + 3 * std::sqrt(variance) : initial_norm_;
  if (norm <= largest_norm) {
    mean = decay_ * mean + (1 - decay_) * norm;
    const double distance = mean - norm;
    variance = decay_ * variance + (1 - decay_) * (distance * distance);
  }
  return std::min(1.0, largest_norm / (norm + 1e-6));
}

void AdaptiveClip::restore(AdaptiveClipState state) {
  state.visit([](const std::string& name, double value, const char*) {
    check_range("state of the adaptive clipping: " + name, value, 0.0,
                std::numeric_limits<double>::max());
  });
  state_ = state;
}

}  // namespace ospnext
