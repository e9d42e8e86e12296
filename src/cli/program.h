// The program behind main(): commands, help, and errors as exit statuses.
#pragma once

#include "cli/flags_from_fields.h"

namespace ospnext {

// Runs the command that `arguments` (without the program's name) say. Errors become one line
// "ospnext: error: ..." on standard error. Returns the exit status: 0 done, 1 failed while running,
// 2 bad usage or input, 130 interrupted.
int run_program(const Arguments& arguments);

// `message` on one line, as it is printed: line breaks become blanks, and of a LibTorch error the C++
// stack behind it is dropped.
std::string one_line(std::string message);

}  // namespace ospnext
