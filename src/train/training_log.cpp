#include "train/training_log.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "io/output_file.h"

namespace ospnext {

TrainingLog::TrainingLog(std::filesystem::path file, int64_t first_step, const ProcessGroup& ranks)
    : file_(std::move(file)), ranks_(ranks) {
  if (ranks.rank() == 0) {
    events_.emplace(file_.parent_path(), first_step);
  }
  std::ifstream old(file_);
  if (!old || ranks.rank() != 0) {
    return;
  }
  // A full disk may have cut the last row: it has fewer columns, or no end of line.
  std::string kept, line;
  const auto columns = [](const std::string& row) { return std::ranges::count(row, ','); };
  while (std::getline(old, line) && !old.eof()) {
    int64_t step = 0;
    const auto number = std::from_chars(line.data(), line.data() + line.size(), step);
    const bool is_row = number.ec == std::errc();
    const bool is_whole = columns(line) == columns(kept.substr(0, kept.find('\n')));
    if (kept.empty() || (is_row && is_whole && step <= first_step)) {
      kept += line + "\n";
    }
  }
  old.close();
  write_text_file(file_, kept);
}

void TrainingLog::add(const std::vector<std::pair<std::string, at::Tensor>>& losses) {
  if (sums_.empty()) {
    names_.clear();
    for (const auto& [name, value] : losses) {
      names_.push_back(name);
      sums_.push_back(at::zeros({}, value.options().dtype(at::kFloat).requires_grad(false)));
    }
  }
  TORCH_CHECK(losses.size() == sums_.size(), "a step has ", losses.size(),
              " losses, earlier ones had ", sums_.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    sums_[i].add_(losses[i].second.detach().to(at::kFloat));
  }
  ++count_;
}

std::string TrainingLog::write(int64_t step, double learning_rate, double seconds_per_step) {
  const double count = static_cast<double>(count_) * ranks_.size();
  const at::Tensor means = (ranks_.all_sum(at::stack(sums_), "losses") / count).cpu();
  std::ostringstream row;
  row << step << "," << learning_rate << "," << seconds_per_step;
  std::string text;
  for (size_t i = 0; i < names_.size(); ++i) {
    const double mean = means[static_cast<int64_t>(i)].item<double>();
    if (!std::isfinite(mean)) {
      throw RunError("training: " + names_[i] + " is not finite before step " +
                     std::to_string(step) + "; lower `learning_rate` and resume");
    }
    row << "," << mean;
    char number[64];
    std::snprintf(number, sizeof number, "%s%s %.4g", i == 0 ? "" : ", ", names_[i].c_str(), mean);
    text += number;
  }
  if (ranks_.rank() == 0) {
    write_row(row.str());
    write_events(step, learning_rate, seconds_per_step, means);
  }
  sums_.clear();
  count_ = 0;
  return text;
}

void TrainingLog::write_events(int64_t step, double learning_rate, double seconds_per_step,
                               const at::Tensor& means) {
  std::vector<std::pair<std::string, double>> scalars{{"learning_rate", learning_rate},
                                                      {"seconds_per_step", seconds_per_step}};
  for (size_t i = 0; i < names_.size(); ++i) {
    scalars.emplace_back(names_[i], means[static_cast<int64_t>(i)].item<double>());
  }
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  events_->add(step, now.count(), scalars);
}

void TrainingLog::write_row(const std::string& row) const {
  const bool is_new = !std::filesystem::exists(file_) || std::filesystem::file_size(file_) == 0;
  std::ofstream out(file_, std::ios::app);
  if (is_new) {
    out << "step,learning_rate,seconds_per_step";
    for (const std::string& name : names_) {
      out << "," << name;
    }
    out << "\n";
  }
  out << row << "\n";
  out.flush();
  check_written(out, file_);
}

}  // namespace ospnext
