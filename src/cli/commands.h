// The program's commands. A new one is a declaration here and a line in commands.cpp.
#pragma once

#include <string>
#include <vector>

#include "cli/flags_from_fields.h"

namespace ospnext {

struct Command {
  const char* name;
  const char* summary;
  // Takes what stands behind the name; returns the exit status, throws the errors of core/error.h.
  int (*run)(const Arguments& arguments);
};

int run_generate(const Arguments& arguments);
int run_stage(const Arguments& arguments);

const std::vector<Command>& commands();
// The stages of the pipeline, each a command behind "stage".
const std::vector<Command>& stages();

// "name  summary" lines, aligned.
std::string command_list(const std::vector<Command>& list);
// The command called arguments[0], run with the rest. Throws InputError for none or an unknown one;
// `prefix` stands before the name in messages ("ospnext stage").
int run_command(const std::vector<Command>& list, const std::string& prefix,
                const Arguments& arguments);

}  // namespace ospnext
