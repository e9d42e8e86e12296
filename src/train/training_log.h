// Mean losses of a training: rows of log.csv, scalars for TensorBoard, and a short text for the
// terminal.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "parallel/process_group.h"
#include "train/event_file.h"

namespace ospnext {

// Sums the losses on their device. Only write() synchronises with it.
class TrainingLog {
 public:
  // Appends to `file`, and writes an event file beside it. Removes rows of steps after `first_step`
  // that an interrupted run left. All of `ranks` log together; rank 0 writes.
  TrainingLog(std::filesystem::path file, int64_t first_step, const ProcessGroup& ranks = {});

  // Adds the named scalars of one step. All steps must have the same number of them.
  void add(const std::vector<std::pair<std::string, at::Tensor>>& losses);
  // Writes the means since the last write, over steps and ranks, as the row of `step`, and returns
  // them as a text such as "loss 0.123, ...". Throws RunError when a mean is not finite or the file
  // cannot be written.
  std::string write(int64_t step, double learning_rate, double seconds_per_step);

 private:
  void write_row(const std::string& row) const;
  void write_events(int64_t step, double learning_rate, double seconds_per_step,
                    const at::Tensor& means);

  std::filesystem::path file_;
  ProcessGroup ranks_;
  std::optional<EventFile> events_;  // on rank 0
  std::vector<std::string> names_;
  std::vector<at::Tensor> sums_;
  int64_t count_ = 0;
};

}  // namespace ospnext
