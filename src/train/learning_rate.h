// The learning rate of each step: a warm-up, then one of several schedules.
#pragma once

#include <cstdint>
#include <string>

namespace ospnext {

struct LearningRateConfig {
  double learning_rate = 1e-3;  // the peak
  std::string learning_rate_schedule = "cosine";
  double final_learning_rate = 0.02;  // as a fraction of the peak
  double learning_rate_power = 1.0;
  int64_t learning_rate_cycles = 1;
  int64_t warmup_steps = 100;

  // Throws InputError naming field, value and rule, for a training of `steps` steps.
  void check(int64_t steps) const;

  // The learning rate of step `step`, from 0. It rises in equal steps, from peak / warmup_steps at
  // step 0 to the peak at the last step of the warm-up. Then, with p from 0 to 1 at `steps`, it is
  // peak · (f + (1 - f) · s(p)), where f is final_learning_rate and s(p)
  //
  //   constant              1, whatever f is
  //   linear                1 - p
  //   cosine                (1 + cos πp) / 2
  //   cosine_with_restarts  (1 + cos πq) / 2, where q runs from 0 to 1 in each cycle; 0 at p = 1
  //   polynomial            (1 - p)^power
  //
  // Source: transformers optimization.py:get_scheduler and diffusers optimization.py, which warm up
  // one step later: their first step has a rate of 0.
  double learning_rate_at(int64_t step, int64_t steps) const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("learning_rate", learning_rate, "peak learning rate");
    field("learning_rate_schedule", learning_rate_schedule,
          "after the warm-up: constant, linear, cosine, cosine_with_restarts or polynomial");
    field("final_learning_rate", final_learning_rate,
          "last learning rate as a fraction of the peak; not of the constant one");
    field("learning_rate_power", learning_rate_power, "power of the polynomial schedule");
    field("learning_rate_cycles", learning_rate_cycles, "cycles of cosine_with_restarts");
    field("warmup_steps", warmup_steps, "steps of linear warm-up");
  }
};

}  // namespace ospnext
