// What tests ask of texts.
#pragma once

#include <string>

namespace ospnext {

inline bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace ospnext
