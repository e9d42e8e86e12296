// Several processes, forked from a test, that work as the ranks of one group over Gloo.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <iostream>
#include <vector>

#include "parallel/process_group.h"
#include "support/hosted_store.h"

namespace ospnext {

// Runs `work` in `size` processes; expectations that fail there fail the test. What the caller made before
// is there in each. One thread computes in each process, since a fork takes no pool of threads along.
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
      int status = 1;
      try {
        const torch::NoGradGuard no_grad;
        at::set_num_threads(
            1);  // torch makes its pool anew after a fork, which two threads cannot do at once
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
