#include "core/log.h"

#include <iostream>

namespace ospnext {

void warn(const std::string& message) {
  std::cerr << "ospnext: warning: " + message + "\n" << std::flush;
}

}  // namespace ospnext
