// What the steps of a training cost: time, work, memory, exchanges.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "train/objective.h"
#include "train/training_ranks.h"

namespace ospnext {

// Costs of the steps since the last row of the log. All processes have one.
class StepCosts {
 public:
  StepCosts(const TrainingRanks& ranks, at::Device device);

  void add(const Pass& pass);
  void end_step() { ++steps_; }
  // Runs what belongs to no step: validation, samples, checkpoints, the log itself.
  void aside(const std::function<void()>& work);

  // The costs, named as columns of the log, and begins anew. All processes call it:
  //
  //   seconds_per_step
  //   samples_per_second  of all processes
  //   model_tflops        model TFLOP/s of a process, whatever is computed again; if known
  //   peak_gib            of the GPU, or of the process without one: the most of all processes
  //   sent_mb/KIND        megabytes that the first process sends in a step, by kind of exchange
  Scalars take();

 private:
  using Clock = std::chrono::steady_clock;
  std::map<std::string, double> sent() const;  // bytes so far
  void synchronize() const;

  const TrainingRanks& ranks_;
  at::Device device_;
  Clock::time_point began_;
  std::map<std::string, double> sent_before_;
  double samples_ = 0, flops_ = 0;
  int64_t steps_ = 0;
};

}  // namespace ospnext
