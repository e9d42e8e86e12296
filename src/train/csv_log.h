// A CSV file with a row of numbers for some of the steps of a training.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/objective.h"

namespace ospnext {

// The first column is `step`. A cell is empty where a row does not have its number.
class CsvLog {
 public:
  // Goes on with `file`, if there is one, after `first_step`: rows of later steps, which an
  // interrupted run left, go, and so does a last line without an end. A file that is no such log is
  // renamed (log.csv to log-1.csv), with a warning.
  CsvLog(std::filesystem::path file, int64_t first_step);

  // Appends a row. The file gets columns that it does not have yet, empty in the rows before; a
  // warning says so if those were there at the beginning. Throws RunError when the file cannot be
  // written.
  void add(int64_t step, const Scalars& scalars);

 private:
  void add_columns(int64_t step, const Scalars& scalars);
  void rewrite() const;

  std::filesystem::path file_;
  std::vector<std::string> columns_;  // without the step
  std::vector<std::string> rows_;     // of the file
  bool goes_on_ = false;              // rows were there at the beginning
};

}  // namespace ospnext
