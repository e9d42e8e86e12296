// The errors that reach a user as one sentence.
//
// A message names a field of a configuration in backquotes: "`num_frames`: found 0". The command
// line shows it as its flag (with_flag_names() of cli/flags_from_fields.h). Whoever takes requests
// in another form shows its own name.
#pragma once

#include <stdexcept>
#include <string>

namespace ospnext {

// A wrong input: a flag, a file, or other input of the user. The message names the flag or file,
// the value found and the value expected. The program prints it on one line and exits with status
// 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Something failed while running (disk full, output folder gone). Exit status 1.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The user asked to stop. Exit status 130, as shells report an interrupt.
class Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("interrupted") {}
};

}  // namespace ospnext
