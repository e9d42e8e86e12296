// Runs the program: as a process of its own, or (faster) inside the test.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/program.h"
#include "support/paths.h"
#include "support/temporary_folder.h"

namespace ospnext {

struct Outcome {
  int status = -1;  // exit status; -signal when killed
  std::string out, err;
};

// Called with the process's id and the file of its standard error once it has started.
using WhileRunning = std::function<void(pid_t, const std::string& err_file)>;

// The real binary. `in_child` runs in its process before it starts.
inline Outcome run_binary(const Arguments& arguments, const WhileRunning& while_running = {},
                          const std::function<void()>& in_child = {}) {
  const TemporaryFolder streams;
  const std::string out = (streams / "out").string();
  const std::string err = (streams / "err").string();
  const std::string program = program_path();
  std::vector<char*> words = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    words.push_back(const_cast<char*>(argument.c_str()));
  }
  words.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    if (in_child) {
      in_child();
    }
    ::execv(program.c_str(), words.data());
    ::_exit(127);
  }
  if (while_running) {
    while_running(pid, err);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), file_text(out),
          file_text(err)};
}

// The same in this process. Output of C's print functions is not captured.
inline Outcome run_here(const Arguments& arguments) {
  const std::ostringstream out, err;
  std::streambuf* old_out = std::cout.rdbuf(out.rdbuf());
  std::streambuf* old_err = std::cerr.rdbuf(err.rdbuf());
  const int status = run_program(arguments);
  std::cout.rdbuf(old_out);
  std::cerr.rdbuf(old_err);
  return {status, out.str(), err.str()};
}

// Expects that `outcome` is a refusal: status 2, nothing on standard output, and one sentence on
// standard error that contains `part`.
inline testing::AssertionResult refuses(const Outcome& outcome, const std::string& part) {
  const std::string prefix = "ospnext: error: ";
  const bool one_line = outcome.err.find('\n') + 1 == outcome.err.size();
  if (outcome.status == 2 && outcome.out.empty() && outcome.err.starts_with(prefix) && one_line &&
      outcome.err.find(part) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "status " << outcome.status << ", expected 2 and \"" << part
                                     << "\"; out: " << outcome.out << "; err: " << outcome.err;
}

}  // namespace ospnext
