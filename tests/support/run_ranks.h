// Forks several processes from a test, which are the ranks of one group over Gloo.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <iostream>
#include <vector>

#include "parallel/process_group.h"
#include "support/hosted_store.h"

namespace ospnext {

// Runs `work` in `size` processes. A failed expectation in one of them fails the test. Each process
// has a copy of all objects of the caller. Each process computes with one thread, because a fork
// does not copy the threads of a pool.
inline void run_ranks(int size, const std::function<void(const ProcessGroup& all)>& work,
                      GroupOptions options = {}) {
  at::set_num_threads(1);
  ::setenv("GLOO_SOCKET_IFNAME", "lo", 0);
  const HostedStore store;
  std::fflush(nullptr);
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::signal(SIGPIPE, SIG_IGN);  // as the program does
      int status = 1;
      try {
        const torch::NoGradGuard no_grad;
        // torch creates a new pool after a fork, which two threads must not do at the same time
        at::set_num_threads(1);
        const Store own = Store::connect("127.0.0.1", store.port(), std::chrono::seconds(20));
        work(ProcessGroup(own, "all", rank, size, options));
        status = testing::Test::HasFailure() ? 1 : 0;
      } catch (const std::exception& error) {
        std::cerr << "rank " << rank << ": " << error.what() << std::endl;
      }
      std::fflush(nullptr);
      ::_exit(status);
    }
    children.push_back(child);
  }
  for (int rank = 0; rank < size; ++rank) {
    int status = 0;
    ::waitpid(children[rank], &status, 0);
    EXPECT_EQ(status, 0) << "rank " << rank << " of " << size;
  }
}

}  // namespace ospnext
