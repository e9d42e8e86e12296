// Mean losses of a training: rows of log.csv, and a short text for the terminal.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// Sums the losses on their device. Only write() synchronises with it.
class TrainingLog {
 public:
  // Appends to `file`. Removes rows of steps after `first_step` that an interrupted run left in it.
  TrainingLog(std::filesystem::path file, int64_t first_step);

  // Adds the named scalars of one step. All steps must have the same number of them.
  void add(const std::vector<std::pair<std::string, at::Tensor>>& losses);
  // Writes the means since the last write as the row of `step`, and returns them as a text such as
  // "loss 0.123, ...". Throws RunError when a mean is not finite or the file cannot be written.
  std::string write(int64_t step, double learning_rate, double seconds_per_step);

 private:
  std::filesystem::path file_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> sums_;
  int64_t count_ = 0;
};

}  // namespace ospnext
