// The errors that reach a user as one sentence.
#pragma once

#include <stdexcept>
#include <string>

namespace ospnext {

// What a user, a file or a flag got wrong. The message names the file or flag, what was found and
// what was expected. The program prints it on one line and exits with status 2.
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
