#include "bench/parameter_step.h"

namespace ospnext {
namespace {

StateHome home_of(const TrainedParameters& parameters, const ParameterStep::Settings& settings) {
  return {.offload = settings.offload, .device = parameters.device()};
}

}  // namespace

ParameterStep::ParameterStep(TrainedParameters& parameters, const Settings& settings)
    : parameters_(parameters),
      optimizer_(parameters.tensors(), settings.adamw, home_of(parameters, settings)),
      learning_rate_(settings.learning_rate) {
  if (settings.ema) {
    ema_.emplace(parameters.tensors(), *settings.ema, home_of(parameters, settings));
  }
}

void ParameterStep::take(int64_t passes) {
  constexpr double kMostNorm = 1;
  parameters_.average_gradients(passes);
  parameters_.clip_gradients(kMostNorm);
  optimizer_.step(learning_rate_);
  optimizer_.zero_grad();
  if (ema_) {
    ema_->update();
  }
}

}  // namespace ospnext
