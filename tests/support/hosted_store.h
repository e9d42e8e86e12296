// A store in a separate process, so that a test that forks has no thread of the store.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "parallel/process_group.h"

namespace ospnext {

class HostedStore {
 public:
  HostedStore() {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    host_ = ::fork();
    if (host_ == 0) {
      const Store store = Store::host(0, "test");
      const int port = store.port();
      const bool told = ::write(ends[1], &port, sizeof port) == sizeof port;
      while (told) {
        ::pause();
      }
      ::_exit(1);
    }
    EXPECT_EQ(::read(ends[0], &port_, sizeof port_), static_cast<ssize_t>(sizeof port_));
    ::close(ends[0]);
    ::close(ends[1]);
  }
  ~HostedStore() {
    ::kill(host_, SIGKILL);
    ::waitpid(host_, nullptr, 0);
  }
  HostedStore(const HostedStore&) = delete;
  HostedStore& operator=(const HostedStore&) = delete;

  int port() const { return port_; }

 private:
  pid_t host_ = 0;
  int port_ = 0;
};

}  // namespace ospnext
