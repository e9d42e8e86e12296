// The processes that `ospnext launch` starts, as a test sees them.
#pragma once

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace ospnext {

// Waits, at most a minute.
inline void wait_until(const std::function<bool()>& ready) {
  constexpr std::chrono::milliseconds kPause(10);
  for (int i = 0; i < 6000 && !ready(); ++i) {
    std::this_thread::sleep_for(kPause);
  }
}

inline std::vector<pid_t> children_of(pid_t parent) {
  const std::string id = std::to_string(parent);
  std::ifstream file("/proc/" + id + "/task/" + id + "/children");
  std::vector<pid_t> children;
  for (pid_t child = 0; file >> child;) {
    children.push_back(child);
  }
  return children;
}

inline bool is_gone(pid_t process) {
  return ::kill(process, 0) != 0;
}

inline bool all_gone(const std::vector<pid_t>& processes) {
  return std::all_of(processes.begin(), processes.end(), is_gone);
}

}  // namespace ospnext
