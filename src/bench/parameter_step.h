// The end of a training's step: mean gradients, clipping, AdamW, averages.
#pragma once

#include <optional>

#include "train/ema.h"
#include "train/optimizer.h"
#include "train/trained_parameters.h"

namespace ospnext {

class ParameterStep {
 public:
  struct Settings {
    AdamWConfig adamw;
    std::optional<EmaConfig> ema;  // nothing: no averages
    double learning_rate = 1e-5;
    bool offload = false;  // keep moments and averages in host memory
  };
  // `parameters` must outlive the object.
  ParameterStep(TrainedParameters& parameters, const Settings& settings);

  // Updates the parameters from the gradients of `passes` passes, which it clears. All processes
  // call it.
  void take(int64_t passes);
  // Drops gradients.
  void forget_gradients() { optimizer_.zero_grad(); }

 private:
  TrainedParameters& parameters_;
  AdamW optimizer_;
  std::optional<Ema> ema_;
  double learning_rate_;
};

}  // namespace ospnext
