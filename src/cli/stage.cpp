// ospnext stage: every stage of the pipeline alone, on files.
#include <iostream>

#include "cli/commands.h"

namespace ospnext {

int run_stage_schedule(const Arguments& arguments);
int run_stage_skiparse(const Arguments& arguments);

const std::vector<Command>& stages() {
  static const std::vector<Command> list = {
      {"schedule", "noise levels of a run, and the sampler on given velocities",
       run_stage_schedule},
      {"skiparse", "tokens from one layout into another", run_stage_skiparse},
  };
  return list;
}

int run_stage(const Arguments& arguments) {
  if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
    std::cout << "Usage: ospnext stage STAGE [flags]\n\nStages:\n" << command_list(stages());
    return 0;
  }
  return run_command(stages(), "ospnext stage", arguments);
}

}  // namespace ospnext
