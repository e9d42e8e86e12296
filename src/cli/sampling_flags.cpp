#include "cli/sampling_flags.h"

#include "core/error.h"
#include "schedulers/sampler.h"

namespace ospnext {

void settle_sigmas(const GivenFlags& given, std::vector<double>& sigmas, int64_t& steps) {
  const auto on_command_line = [&](const char* flag) { return given.flags.contains(flag); };
  if (!on_command_line("sigmas") && (on_command_line("steps") || on_command_line("shift"))) {
    sigmas.clear();
  }
  if (on_command_line("sigmas") && on_command_line("shift")) {
    throw InputError(
        "--sigmas and --shift: found both, expected one of them: written levels are not shifted");
  }
  if (num_steps(sigmas) > 0 && !on_command_line("steps")) {
    steps = num_steps(sigmas);
  }
}

}  // namespace ospnext
