// A program that gets its input from memory and gives its output back, within a time limit.
#pragma once

#include <string>
#include <string_view>

#include "core/cancel.h"

namespace ospnext {

struct PipedProgram {
  std::string command;              // as the shell takes it
  double seconds = 60;              // for the whole run
  size_t most_output = 16UL << 20;  // bytes
};

// Runs the command, with `input` on its standard input, and returns its standard output. Standard
// error stays this process's. At the end, in time or not, the program and all processes of its
// group are killed. Throws RunError, which begins with the command, for a program that cannot be
// started, ends with a status other than 0, takes longer, or writes more; and Cancelled.
std::string run_piped(const PipedProgram& program, std::string_view input,
                      const CancellationToken& cancel);

}  // namespace ospnext
