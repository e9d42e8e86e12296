#include "train/training_log.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "io/output_file.h"

namespace ospnext {

TrainingLog::TrainingLog(const std::filesystem::path& file, int64_t first_step,
                         const ProcessGroup& ranks)
    : ranks_(ranks) {
  if (ranks.rank() == 0) {
    rows_.emplace(file, first_step);
    events_.emplace(file.parent_path(), first_step);
  }
}

void TrainingLog::add(const Losses& losses) {
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

Scalars TrainingLog::take_means() {
  const double count = static_cast<double>(count_) * ranks_.size();
  const at::Tensor means = (ranks_.all_sum(at::stack(sums_), "losses") / count).cpu();
  Scalars named;
  for (size_t i = 0; i < names_.size(); ++i) {
    named.emplace_back(names_[i], means[static_cast<int64_t>(i)].item<double>());
  }
  sums_.clear();
  count_ = 0;
  return named;
}

Scalars TrainingLog::write(int64_t step, const Scalars& others) {
  Scalars row = take_means();
  row.insert(row.end(), others.begin(), others.end());
  for (const auto& [name, value] : row) {
    if (!std::isfinite(value)) {
      throw RunError("training: " + name + " is not finite before step " + std::to_string(step) +
                     "; lower `learning_rate` and resume");
    }
  }
  if (ranks_.rank() == 0) {
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    rows_->add(step, row);
    events_->add(step, now.count(), row);
  }
  return row;
}

std::string row_text(const Scalars& row) {
  Scalars shown;
  for (const auto& [name, value] : row) {
    const std::string head = name.substr(0, name.find('/'));
    if (!shown.empty() && shown.back().first == head) {
      shown.back().second += value;
    } else {
      shown.emplace_back(head, value);
    }
  }
  std::string text;
  for (const auto& [name, value] : shown) {
    char number[32];
    std::snprintf(number, sizeof number, " %.4g", value);
    text += (text.empty() ? "" : ", ") + name + number;
  }
  return text;
}

}  // namespace ospnext
