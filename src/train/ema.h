// Exponential moving average (EMA) of parameters. The averaged weights are the ones that are saved.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "train/optimizer.h"

namespace ospnext {

// The defaults are OSP-Next's.
struct EmaConfig {
  double decay = 0.9999;
  int64_t every = 1;     // steps from one update to the next
  bool warm_up = false;  // whether the decay begins smaller

  // Throws InputError naming field, value and rule. `prefix` as in visit().
  void check(const std::string& prefix = "") const;

  // `prefix` stands before the names, as in "ema_decay".
  template <class Visitor>
  void visit(Visitor&& field, const std::string& prefix = "") {
    field((prefix + "decay").c_str(), decay, "decay of the averaged weights");
    field((prefix + "every").c_str(), every, "steps from one update of the averages to the next");
    field((prefix + "warm_up").c_str(), warm_up,
          "begin with a smaller decay, so that the averages forget the first weights quickly");
  }
};

// After each `every`-th step: shadow <- d·shadow + (1 - d)·parameter, in float32, with d = decay,
// or with warm_up d = min(decay, (1 + n)/(10 + n)) after n updates.
// Source: OSP-Next ospnext/distributed/fsdp_ema.py:FSDPEMAModel (without warm-up);
// TensorFlow tf.train.ExponentialMovingAverage (warm-up).
class Ema {
 public:
  // The averages begin as copies of `parameters`: float32 tensors of any shapes, whole or flat
  // shards. Throws c10::Error for another dtype.
  Ema(const std::vector<TrainedTensor>& parameters, const EmaConfig& config, const StateHome& home);
  Ema(const NamedTensors& parameters, const EmaConfig& config)
      : Ema(with_decaying_weights(parameters), config, StateHome()) {}

  // Counts a step. If an update is due, adds the current parameters to the averages.
  void update();
  // The averages, by parameter name; shapes as the parameters, float32.
  std::map<std::string, at::Tensor> shadow() const;
  // Restores the averages and the number of steps so far. Throws c10::Error for an entry that is
  // missing or has another shape.
  void load(const std::map<std::string, at::Tensor>& shadow, int64_t steps);
  // Exchanges averages and parameters in place. Call it to evaluate or save the averaged weights,
  // and again to continue training.
  void swap();

 private:
  struct Group {
    bool offloaded;
    std::vector<std::string> names = {};
    std::vector<at::Tensor> parameters = {}, shadow = {};
  };

  EmaConfig config_;
  StateHome home_;
  ChunkedUpdate update_;
  int64_t steps_ = 0;
  std::vector<Group> groups_;
};

}  // namespace ospnext
