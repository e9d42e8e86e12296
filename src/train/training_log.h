// The log of a training: means of its losses and further numbers, as rows of log.csv and as scalars
// for TensorBoard.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "parallel/process_group.h"
#include "train/csv_log.h"
#include "train/event_file.h"
#include "train/objective.h"

namespace ospnext {

// Sums the losses on their device. Only write() synchronises with it.
class TrainingLog {
 public:
  // Goes on with `file` after `first_step` as CsvLog does, and writes an event file beside it. All
  // of `ranks` log together; rank 0 writes.
  TrainingLog(const std::filesystem::path& file, int64_t first_step,
              const ProcessGroup& ranks = {});

  // Adds the named scalars of one step. All steps must have the same number of them.
  void add(const Losses& losses);
  // Writes the means since the last write, over steps and ranks, and then `others`, as the row of
  // `step`. Returns both. Throws RunError when one is not finite or a file cannot be written.
  Scalars write(int64_t step, const Scalars& others);

 private:
  Scalars take_means();

  ProcessGroup ranks_;
  std::optional<CsvLog> rows_;       // on rank 0
  std::optional<EventFile> events_;  // on rank 0
  std::vector<std::string> names_;
  std::vector<at::Tensor> sums_;
  int64_t count_ = 0;
};

// A row for the terminal: "loss 0.123, gradient_norm 0.51, ..., sent_mb 12.3", where names that
// share what stands before a slash are one sum.
std::string row_text(const Scalars& row);

}  // namespace ospnext
