// JSON from strangers: bounded depth and size, no key twice.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ospnext {

// Parses `text`. Throws InputError, beginning with `origin`, when it is no JSON, nests deeper than
// `max_depth`, names a key of an object twice or holds half a million parts.
nlohmann::json parse_bounded_json(std::string_view text, const std::string& origin,
                                  int max_depth = 32);

// The same with the keys of objects in the order of the text. Looking one up costs the more the more
// there are, so that half a million parts become ten thousand.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& origin,
                                          int max_depth = 32);

// Reads a JSON file of at most `max_bytes`; errors as above, also for a file that cannot be read.
nlohmann::json read_json_file(const std::filesystem::path& file, size_t max_bytes = 16 << 20);

// The same with the keys of objects in the order of the file.
nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& file,
                                              size_t max_bytes = 16 << 20);

// Reads a JSON file that must hold an object.
nlohmann::json read_json_object(const std::filesystem::path& file);

// A value as messages show it: text in quotes, cut when long.
std::string shown(const nlohmann::json& value);
std::string shown(const nlohmann::ordered_json& value);

}  // namespace ospnext
