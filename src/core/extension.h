// The ending of a file's name.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>

namespace ospnext {

// In small letters, since it says the format in any case: "Clip.MP4" -> ".mp4".
inline std::string extension_of(const std::filesystem::path& file) {
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return extension;
}

}  // namespace ospnext
