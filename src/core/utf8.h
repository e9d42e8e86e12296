// Text in UTF-8.
#pragma once

#include <string>

namespace ospnext {

// The beginning of `text`, of at most `bytes` bytes and whole characters.
inline std::string utf8_prefix(const std::string& text, size_t bytes) {
  const auto is_inside = [&](size_t place) {  // a character
    return (static_cast<unsigned char>(text[place]) & 0xc0) == 0x80;
  };
  if (text.size() <= bytes) {
    return text;
  }
  while (bytes > 0 && is_inside(bytes)) {
    --bytes;
  }
  return text.substr(0, bytes);
}

}  // namespace ospnext
