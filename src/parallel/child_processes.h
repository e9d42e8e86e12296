// Child processes of a command. Their output lines get a prefix, and they end with the command.
#pragma once

#include <sys/types.h>

#include <chrono>
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
  // Kills all children that still run.
  ~ChildProcesses();
  ChildProcesses(const ChildProcesses&) = delete;
  ChildProcesses& operator=(const ChildProcesses&) = delete;

  // Starts this program with other arguments and with `variables` added to the environment. The
  // child gets SIGTERM if this process dies. Throws RunError.
  void start(const std::vector<std::string>& arguments,
             const std::map<std::string, std::string>& variables);

  // Forwards the output lines of all children until all have ended; lines of child 2 get the prefix
  // "[2] ". When a child ends with a status other than 0, or on `cancel`, the others are stopped,
  // including suspended ones: by SIGTERM (SIGINT on `cancel`), and by SIGKILL after ten seconds
  // (`grace` on `cancel`). Returns the end of the first child with a status other than 0, or
  // status 0.
  ChildEnd wait(const CancellationToken& cancel, std::chrono::seconds grace);

 private:
  struct Stream {
    int from, to;      // file descriptors; from is -1 after the end
    std::string line;  // an unfinished line
  };
  struct Child {
    pid_t pid;
    bool runs;
    Stream out, err;
  };
  // Forwards the output that is available and waits up to `milliseconds` for some. Returns whether
  // there was any.
  bool pass_lines(int milliseconds);
  void pass_lines_of(size_t child, Stream& stream);
  std::vector<ChildEnd> reap();
  void signal_all(int signal) const;
  bool any_runs() const;

  std::vector<Child> children_;
};

}  // namespace ospnext
