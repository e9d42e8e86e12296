// A flag that tells long work to stop at the next safe point.
#pragma once

#include <atomic>

#include "core/error.h"

namespace ospnext {

// Set from a signal handler or another thread; polled by every loop over steps, frames or files.
class CancellationToken {
 public:
  // Safe inside a signal handler.
  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const noexcept { return cancelled_.load(std::memory_order_relaxed); }

  // Throws Cancelled once cancel() was called.
  void check() const {
    if (cancelled()) {
      throw Cancelled();
    }
  }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace ospnext
