#include "train/learning_rate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "core/choice.h"
#include "core/number_check.h"

namespace ospnext {
namespace {

enum class Schedule { kConstant, kLinear, kCosine, kRestarts, kPolynomial };

Schedule parse_schedule(const std::string& name) {
  static constexpr std::array<std::pair<const char*, Schedule>, 5> kSchedules{
      {{"constant", Schedule::kConstant},
       {"linear", Schedule::kLinear},
       {"cosine", Schedule::kCosine},
       {"cosine_with_restarts", Schedule::kRestarts},
       {"polynomial", Schedule::kPolynomial}}};
  return one_of("`learning_rate_schedule`", name, kSchedules);
}

double half_cosine(double done) {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * done));
}

}  // namespace

void LearningRateConfig::check(int64_t steps) const {
  check_range("`learning_rate`", learning_rate, 1e-12, 10.0);
  parse_schedule(learning_rate_schedule);
  check_range("`final_learning_rate`", final_learning_rate, 0.0, 1.0);
  check_range("`learning_rate_power`", learning_rate_power, 0.01, 100.0);
  check_range("`learning_rate_cycles`", learning_rate_cycles, int64_t{1}, int64_t{1'000'000});
  check_range("`warmup_steps`", warmup_steps, int64_t{0}, steps);
}

double LearningRateConfig::learning_rate_at(int64_t step, int64_t steps) const {
  if (step < warmup_steps) {
    return learning_rate * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  }
  const auto span = static_cast<double>(std::max<int64_t>(1, steps - warmup_steps));
  const double done = std::min(1.0, static_cast<double>(step - warmup_steps) / span);
  double share = 1;
  switch (parse_schedule(learning_rate_schedule)) {
    case Schedule::kConstant:
      return learning_rate;
    case Schedule::kLinear:
      share = 1 - done;
      break;
    case Schedule::kCosine:
      share = half_cosine(done);
      break;
    case Schedule::kRestarts:
      share = done < 1
                  ? half_cosine(std::fmod(done * static_cast<double>(learning_rate_cycles), 1.0))
                  : 0;
      break;
    case Schedule::kPolynomial:
      share = std::pow(1 - done, learning_rate_power);
      break;
  }
  return learning_rate * (final_learning_rate + (1 - final_learning_rate) * share);
}

}  // namespace ospnext
