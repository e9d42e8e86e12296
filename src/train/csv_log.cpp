#include "train/csv_log.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "core/log.h"
#include "io/output_file.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
  }
  return parts;
}

// The complete lines of a file.
std::vector<std::string> lines_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::vector<std::string> lines = split(text, '\n');
  lines.pop_back();  // it has no end, or is empty
  return lines;
}

// The step of a row, or -1 if the line is none of `cells` cells.
int64_t step_of(const std::string& line, size_t cells) {
  int64_t step = -1;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
  const bool is_row = error == std::errc() && (end == line.data() + line.size() || *end == ',') &&
                      std::ranges::count(line, ',') + 1 == static_cast<int64_t>(cells);
  return is_row ? step : -1;
}

// The number of the first line that does not belong to a log, 0 if all do.
size_t bad_line(const std::vector<std::string>& lines) {
  if (lines.empty()) {
    return 0;
  }
  const std::vector<std::string> header = split(lines[0], ',');
  if (header[0] != "step") {
    return 1;
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    if (step_of(lines[i], header.size()) < 0) {
      return i + 1;
    }
  }
  return 0;
}

void set_aside(const fs::path& file, size_t line) {
  fs::path other;
  int number = 0;
  do {
    other = file.parent_path() /
            (file.stem().string() + "-" + std::to_string(++number) + file.extension().string());
  } while (fs::exists(other));
  move_file(file, other);
  warn(file.string() + ": line " + std::to_string(line) +
       " is not one of a training's log; the file is kept as " + other.string() +
       ", and a new log begins");
}

}  // namespace

CsvLog::CsvLog(fs::path file, int64_t first_step) : file_(std::move(file)) {
  if (!fs::exists(file_)) {
    return;
  }
  std::vector<std::string> lines = lines_of(file_);
  if (const size_t bad = bad_line(lines); bad > 0) {
    set_aside(file_, bad);
    return;
  }
  if (!lines.empty()) {
    columns_ = split(lines[0], ',');
    std::erase_if(lines, [&, cells = columns_.size()](const std::string& line) {
      return step_of(line, cells) > first_step;
    });
    columns_.erase(columns_.begin());
    rows_.assign(lines.begin() + 1, lines.end());
    goes_on_ = !rows_.empty();
  }
  rewrite();
}

void CsvLog::add(int64_t step, const Scalars& scalars) {
  add_columns(step, scalars);
  std::string row = std::to_string(step);
  for (const std::string& column : columns_) {
    const auto found = std::ranges::find(scalars, column, &Scalars::value_type::first);
    char number[32] = "";
    if (found != scalars.end()) {
      std::snprintf(number, sizeof number, "%.7g", found->second);
    }
    row += std::string(",") + number;
  }
  std::ofstream out(file_, std::ios::app);
  out << row << "\n" << std::flush;
  check_written(out, file_);
  rows_.push_back(std::move(row));
}

void CsvLog::add_columns(int64_t step, const Scalars& scalars) {
  std::vector<std::string> missing;
  for (const auto& [name, value] : scalars) {
    if (std::ranges::find(columns_, name) == columns_.end()) {
      missing.push_back(name);
    }
  }
  if (missing.empty()) {
    return;
  }
  std::string names;
  for (const std::string& name : missing) {
    names += (names.empty() ? "" : ", ") + name;
    columns_.push_back(name);
  }
  for (std::string& row : rows_) {
    row.append(missing.size(), ',');
  }
  if (goes_on_) {
    warn(file_.string() + ": from step " + std::to_string(step) + " on it also has " + names +
         ", which is empty in the rows before");
  }
  rewrite();
}

void CsvLog::rewrite() const {
  if (columns_.empty()) {
    return;
  }
  std::string text = "step";
  for (const std::string& column : columns_) {
    text += "," + column;
  }
  text += "\n";
  for (const std::string& row : rows_) {
    text += row + "\n";
  }
  write_text_file(file_, text);
}

}  // namespace ospnext
