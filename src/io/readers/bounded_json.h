// Parses JSON from untrusted sources, with limits on depth and size and without duplicate keys.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ospnext {

// Parses `text`. Throws InputError, beginning with `origin`, if it is not JSON, nests deeper than
// `max_depth`, repeats a key of an object, or has more than half a million parts.
nlohmann::json parse_bounded_json(std::string_view text, const std::string& origin,
                                  int max_depth = 32);

// The same, with the keys of objects in the order of the text. A look-up takes time proportional to
// the number of keys, so the limit is ten thousand parts.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& origin,
                                          int max_depth = 32);

// Reads a JSON file of at most `max_bytes`. Throws as above, also if the file cannot be read.
nlohmann::json read_json_file(const std::filesystem::path& file, size_t max_bytes = 16 << 20);

// The same, with the keys of objects in the order of the file.
nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& file,
                                              size_t max_bytes = 16 << 20);

// Like read_json_file, for a file that must contain an object.
nlohmann::json read_json_object(const std::filesystem::path& file);

// A value as text for messages: strings in quotes, long values shortened.
std::string shown(const nlohmann::json& value);
std::string shown(const nlohmann::ordered_json& value);

}  // namespace ospnext
