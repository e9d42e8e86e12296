// Writing to a pipe whose reader has gone.
#pragma once

#include <csignal>
#include <ctime>

namespace ospnext {

// While it lives, such a write of this thread is an error (EPIPE) and not a signal, which would end
// the program.
class PipeSignalBlock {
 public:
  PipeSignalBlock() { ::pthread_sigmask(SIG_BLOCK, &pipe_signal(), &before_); }
  ~PipeSignalBlock() {
    const timespec at_once = {};
    while (::sigtimedwait(&pipe_signal(), nullptr, &at_once) == SIGPIPE) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  PipeSignalBlock(const PipeSignalBlock&) = delete;
  PipeSignalBlock& operator=(const PipeSignalBlock&) = delete;

  // The signals that were blocked before.
  const sigset_t& before() const { return before_; }

 private:
  static const sigset_t& pipe_signal() {
    static const sigset_t set = [] {
      sigset_t one;
      sigemptyset(&one);
      sigaddset(&one, SIGPIPE);
      return one;
    }();
    return set;
  }

  sigset_t before_;
};

}  // namespace ospnext
