// Mean losses of a training, to log.csv and as a short text for the terminal.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// Sums losses on their device, so that most steps need no synchronisation with it.
class TrainingLog {
 public:
  // Appends to `file`; rows of steps past `first_step` that an interrupted run left there are dropped.
  TrainingLog(std::filesystem::path file, int64_t first_step);

  // Adds one step's named scalars.
  void add(const std::vector<std::pair<std::string, at::Tensor>>& losses);
  // Writes the means since the last write as the row of `step` and returns "loss 0.123, …". Throws
  // RunError when a mean is not finite or the file cannot be written.
  std::string write(int64_t step, double learning_rate, double seconds_per_step);

 private:
  std::filesystem::path file_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> sums_;
  int64_t count_ = 0;
};

}  // namespace ospnext
