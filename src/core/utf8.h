// Text in UTF-8.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ospnext {

inline constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

inline bool is_utf8(const std::string& text) {
  try {
    nlohmann::json(text).dump();  // refuses anything else
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

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
