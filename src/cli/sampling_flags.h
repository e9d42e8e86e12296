// How the flags --sigmas, --steps and --shift stand to each other.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/flags_from_fields.h"

namespace ospnext {

// Noise levels written down say how many steps there are. --steps or --shift on the command line goes
// before levels that a --config file or the model brings. Throws InputError for --shift beside --sigmas.
void settle_sigmas(const GivenFlags& given, std::vector<double>& sigmas, int64_t& steps);

}  // namespace ospnext
