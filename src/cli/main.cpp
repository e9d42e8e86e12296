// The program ospnext.
#include "cli/program.h"

int main(int argc, char** argv) {
  return ospnext::run_program(ospnext::Arguments(argv + 1, argv + argc));
}
