// Exponential moving average of parameters: the weights that are published.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "train/optimizer.h"

namespace ospnext {

// shadow <- d·shadow + (1 - d)·parameter after every step, in float32, with
// d = min(decay, (1 + n)/(10 + n)) at step n, so that the first steps do not linger.
class Ema {
 public:
  Ema(const NamedTensors& parameters, double decay);

  void update();
  // Shadow by parameter name.
  std::map<std::string, at::Tensor> shadow() const;
  // Throws c10::Error for a missing or misshapen entry. `updates` is the count n so far.
  void load(const std::map<std::string, at::Tensor>& shadow, int64_t updates);
  // Exchanges shadow and parameters: once to evaluate or save the averaged weights, once more to go on.
  void swap();

 private:
  double decay_;
  int64_t updates_ = 0;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_, shadow_;
};

}  // namespace ospnext
