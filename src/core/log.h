// Warnings.
#pragma once

#include <string>

namespace ospnext {

// One line "ospnext: warning: ..." on standard error, for what the user should know though work goes on.
void warn(const std::string& message);

}  // namespace ospnext
