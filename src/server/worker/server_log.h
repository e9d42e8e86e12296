// What happens in a server, on standard error.
#pragma once

#include <ctime>
#include <iostream>
#include <mutex>
#include <string>

namespace ospnext {

// Lines on standard error, each with the time.
class ServerLog {
 public:
  void write(const std::string& line) {
    const std::time_t now = std::time(nullptr);
    std::tm parts = {};
    gmtime_r(&now, &parts);
    char time[32];
    std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ ", &parts);
    const std::lock_guard lock(mutex_);
    std::cerr << time + line + "\n" << std::flush;
  }

 private:
  std::mutex mutex_;
};

}  // namespace ospnext
