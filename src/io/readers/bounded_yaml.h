// Parses YAML from untrusted sources into JSON, with limits on depth and size.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ospnext {

// Parses one YAML document. Unquoted null, true, false and decimal numbers become values of that
// type; every other scalar becomes text. Throws InputError, beginning with `origin`, if the text is
// not YAML, nests deeper than `max_depth`, repeats a key, or uses anchors, aliases, tags or keys
// that are not scalars. No configuration needs these, and with them a few lines can expand to
// gigabytes.
nlohmann::json parse_bounded_yaml(std::string_view text, const std::string& origin,
                                  int max_depth = 32);

// Reads a YAML file of at most `max_bytes`. Throws as above, also if the file cannot be read.
nlohmann::json read_yaml_file(const std::filesystem::path& file, size_t max_bytes = 1 << 20);

}  // namespace ospnext
