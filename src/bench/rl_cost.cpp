#include "bench/rl_cost.h"

#include <cstdio>
#include <functional>
#include <utility>

#include "bench/timing.h"

namespace ospnext {
namespace {

double median_of(const RlCost& cost, const std::function<double(const EpochCost&)>& number) {
  std::vector<double> numbers;
  for (const EpochCost& epoch : cost.epochs) {
    numbers.push_back(number(epoch));
  }
  return median(numbers);
}

std::string comparison(const char* what, double seconds, const char* alone_is, double alone) {
  char line[160];
  std::snprintf(line, sizeof line, "%s: %.4f s; %s: %.4f s; ratio %.3f\n", what, seconds, alone_is,
                alone, seconds / alone);
  return line;
}

}  // namespace

void EpochCost::add(const Pass& pass) {
  ++passes;
  for (const auto& [name, loss] : pass.losses) {
    const auto is = [&name = name](const char* part) { return name == part; };
    if (is("seconds/update")) {
      update += loss.item<double>();
    } else if (is("seconds/rollout")) {  // this and the next ones: the same in all passes
      rollouts = loss.item<double>();
    } else if (is("seconds/decode")) {
      decode = loss.item<double>();
    } else if (is("seconds/reward")) {
      reward = loss.item<double>();
    }
  }
}

std::string parts_table(const RlCost& cost) {
  const std::vector<std::pair<const char*, std::function<double(const EpochCost&)>>> parts = {
      {"rollouts", &EpochCost::rollouts},
      {"decode", &EpochCost::decode},
      {"wait for rewards", &EpochCost::reward},
      {"update", &EpochCost::update},
      {"optimizer", &EpochCost::optimizer},
      {"rest", &EpochCost::rest},
      {"whole", &EpochCost::whole}};
  char line[160];
  std::snprintf(line, sizeof line, "%-20s%10s%10s\n", "part of an epoch", "s", "share");
  std::string table = line;
  const double whole = median_of(cost, &EpochCost::whole);
  for (const auto& [name, number] : parts) {
    const double seconds = median_of(cost, number);
    std::snprintf(line, sizeof line, "%-20s%10.3f%8.1f %%\n", name, seconds, 100 * seconds / whole);
    table += line;
  }
  if (cost.idle) {
    std::snprintf(line, sizeof line, "GPU idle: %.2f %% of the epochs\n", 100 * *cost.idle);
    table += line;
  }
  return table;
}

std::string comparisons(const RlCost& cost) {
  return comparison("a rollout",
                    median_of(cost, &EpochCost::rollouts) / static_cast<double>(cost.rollouts),
                    "sampling alone", median(cost.sampling)) +
         comparison("an update",
                    median_of(cost,
                              [](const EpochCost& epoch) {
                                return epoch.update / static_cast<double>(epoch.passes);
                              }),
                    "its passes alone", median(cost.passes));
}

}  // namespace ospnext
