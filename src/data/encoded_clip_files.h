// Names in a folder of encoded clips, for its reader and its writer.
#pragma once

#include <cstdio>
#include <string>

namespace ospnext {

inline constexpr const char* kIndexName = "index.json";
inline constexpr const char* kEmptyCaptionName = "empty_caption.safetensors";
inline constexpr const char* kEncodedClipsFormat = "ospnext encoded clips 1";

inline std::string latent_name(size_t number) {
  return "latent." + std::to_string(number);
}

inline std::string text_name(int64_t number) {
  return "text." + std::to_string(number);
}

inline std::string shard_name(size_t number) {
  char name[40];
  std::snprintf(name, sizeof name, "clips-%05zu.safetensors", number);
  return name;
}

}  // namespace ospnext
