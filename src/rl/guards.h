// Guards: bounds on what is measured of the videos, which end a training that pleases its rewards
// in the wrong way.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "train/objective.h"

namespace ospnext {

// A number, or a multiple of a number's mean at the beginning.
struct GuardBound {
  double value = 0;
  bool is_relative = false;
};

struct Guard {
  std::string name;  // of a reward, or kDiversity
  std::optional<GuardBound> low, high;
};

inline constexpr const char* kDiversity = "diversity";

// NAME:LOW:HIGH for each. LOW or HIGH is a number, a number with an x behind it (times the
// beginning), or empty. `rewards` are the names that there are beside kDiversity. Throws InputError
// that begins with "`guard`".
std::vector<Guard> parse_guards(const std::vector<std::string>& texts,
                                const std::vector<std::string>& rewards);

// Watches the means over the last `epochs` epochs, from the `epochs`-th on.
class GuardWatch {
 public:
  GuardWatch(std::vector<Guard> guards, int64_t epochs);

  // What was measured in one more epoch: a number for each guard's name, and the weighted sum of
  // the rewards. Throws InputError for a beginning of 0 or less where a bound is relative to it.
  void add(const std::map<std::string, double>& numbers, double reward);
  // Which guard is out of its bounds, as a sentence; empty: none.
  std::string violation() const;
  // The mean of the rewards over the last epochs; nothing where there are no guards, too few
  // epochs, or a guard is out of its bounds.
  std::optional<double> reward() const;

  nlohmann::json state() const;
  // Throws InputError, beginning with `origin`, for a state of another form. A guard that the state
  // does not know begins now.
  void restore(const nlohmann::json& state, const std::string& origin);

 private:
  struct History {
    std::vector<double> first, last;  // at most `epochs_` numbers each
  };
  void append(const std::string& name, double number);
  bool is_full(const History& history) const {
    return static_cast<int64_t>(history.last.size()) == epochs_;
  }
  std::string violation(const Guard& guard) const;

  std::vector<Guard> guards_;
  int64_t epochs_;
  std::map<std::string, History> histories_;  // of each guard's name; "" of the rewards
};

}  // namespace ospnext
