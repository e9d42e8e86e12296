// The program behind main(): commands, help, and exit statuses for errors.
#pragma once

#include "cli/flags_from_fields.h"

namespace ospnext {

// Runs the command given by `arguments` (without the program's name). Prints an error as one line
// "ospnext: error: ..." on standard error. Returns the exit status: 0 success, 1 failed while
// running, 2 bad usage or input, 130 interrupted.
int run_program(const Arguments& arguments);

// `message` as one line for printing: line breaks become spaces, and the C++ stack trace of a
// LibTorch error is dropped.
std::string one_line(std::string message);

}  // namespace ospnext
