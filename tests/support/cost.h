// The cost of an action for this process: CPU seconds and additional memory.
#pragma once

#include <ctime>
#include <fstream>
#include <string>

namespace ospnext {

struct Cost {
  double seconds = 0;
  long kilobytes = 0;
};

// Reads a memory size of this process from the kernel: "VmHWM:" (the peak) or "VmRSS:" (now).
inline long process_kilobytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == field) {
      long value = 0;
      status >> value;
      return value;
    }
  }
  return 0;
}

template <class Action>
Cost cost_of(Action&& action) {
  std::ofstream("/proc/self/clear_refs") << 5;  // resets the peak
  const long before = process_kilobytes("VmRSS:");
  const std::clock_t start = std::clock();
  action();
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  return {seconds, process_kilobytes("VmHWM:") - before};
}

// The limits for reading or refusing a file. With sanitizers they are higher, because these need
// time and memory of their own.
#ifdef __SANITIZE_ADDRESS__
inline constexpr Cost kMostCost{10, 2'000'000};
#else
inline constexpr Cost kMostCost{1, 200'000};
#endif

}  // namespace ospnext
