// Warnings.
#pragma once

#include <string>

namespace ospnext {

// Prints one line "ospnext: warning: MESSAGE" on standard error. For things that the user should
// know but that do not stop the program.
void warn(const std::string& message);

}  // namespace ospnext
