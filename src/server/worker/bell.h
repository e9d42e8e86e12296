// Wakes workers that wait for jobs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace ospnext {

class Bell {
 public:
  void ring() {
    {
      const std::lock_guard lock(mutex_);
      ++rings_;
    }
    changed_.notify_all();
  }
  // Waits for the next ring, at most `pause`.
  void wait(std::chrono::milliseconds pause) {
    std::unique_lock lock(mutex_);
    const auto before = rings_;
    changed_.wait_for(lock, pause, [&] { return rings_ != before; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned rings_ = 0;
};

}  // namespace ospnext
