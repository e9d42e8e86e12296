// Processes that a command starts: their lines come out with a name before them, and none outlives it.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "core/cancel.h"

namespace ospnext {

// How a process ended.
struct ChildEnd {
  int child = 0;   // its number, from 0
  int status = 0;  // exit status, or -signal
};

class ChildProcesses {
 public:
  ChildProcesses() = default;
  // Kills what still runs.
  ~ChildProcesses();
  ChildProcesses(const ChildProcesses&) = delete;
  ChildProcesses& operator=(const ChildProcesses&) = delete;

  // Starts this program with other arguments, and variables added to the environment. It gets SIGTERM should
  // this process die. Throws RunError.
  void start(const std::vector<std::string>& arguments,
             const std::map<std::string, std::string>& variables);

  // Passes the lines of all on, child 2's with "[2] " before them, until all have ended. The first that ends
  // with another status than 0 makes it stop the others, stopped ones too: by SIGTERM, and after ten seconds by SIGKILL; so does
  // `cancel`. Returns that first end, or status 0.
  ChildEnd wait(const CancellationToken& cancel);

 private:
  struct Stream {
    int from, to;      // file descriptors; from is -1 when it has ended
    std::string line;  // begun, not yet ended
  };
  struct Child {
    pid_t pid;
    bool runs;
    Stream out, err;
  };
  // Passes on what there is, waiting a while for the first of it. Whether there was any.
  bool pass_lines(int milliseconds);
  void pass_lines_of(size_t child, Stream& stream);
  std::vector<ChildEnd> reap();
  void signal_all(int signal) const;
  bool any_runs() const;

  std::vector<Child> children_;
};

}  // namespace ospnext
