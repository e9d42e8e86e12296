// The main function of the program ospnext.
#include <unistd.h>

#include <cstdlib>

#include "cli/program.h"

namespace {

// By default OpenMP's threads spin while they wait. Only an environment variable read when the
// library is loaded changes that, so the program starts a second time. On cores shared with other
// programs, spinning made a clip take nine times as long.
void let_waiting_threads_sleep(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) {
    setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0);
    execv("/proc/self/exe", argv);  // returns only on failure; then threads spin
  }
}

}  // namespace

int main(int argc, char** argv) {
  let_waiting_threads_sleep(argv);
  return ospnext::run_program(ospnext::Arguments(argv + 1, argv + argc));
}
