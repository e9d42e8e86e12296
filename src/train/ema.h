// Exponential moving average (EMA) of parameters. The averaged weights are the ones that are saved.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "train/optimizer.h"

namespace ospnext {

// After every step: shadow <- d·shadow + (1 - d)·parameter, in float32, with
// d = min(decay, (1 + n)/(10 + n)) at step n. The smaller d at the start lets the average forget
// the initial weights quickly.
class Ema {
 public:
  Ema(const NamedTensors& parameters, double decay);

  // Adds the current parameters to the averages.
  void update();
  // The averages, by parameter name; shapes as the parameters, float32.
  std::map<std::string, at::Tensor> shadow() const;
  // Restores the averages and the number of updates so far (n). Throws c10::Error for an entry that
  // is missing or has another shape.
  void load(const std::map<std::string, at::Tensor>& shadow, int64_t updates);
  // Exchanges averages and parameters in place. Call it to evaluate or save the averaged weights,
  // and again to continue training.
  void swap();

 private:
  double decay_;
  int64_t updates_ = 0;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_, shadow_;
};

}  // namespace ospnext
