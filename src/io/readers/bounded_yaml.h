// YAML from strangers: plain data of bounded size and depth, as JSON.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ospnext {

// Parses one YAML document. Unquoted null, true, false and decimal numbers become values of that type,
// every other scalar text. Throws InputError, beginning with `origin`, for what is no YAML, nests deeper
// than `max_depth`, names a key twice, or uses anchors, aliases, tags or keys that are no scalars: no
// configuration needs them, and with them a few lines can stand for gigabytes.
nlohmann::json parse_bounded_yaml(std::string_view text, const std::string& origin,
                                  int max_depth = 32);

// Reads a YAML file of at most `max_bytes`; errors as above, also for a file that cannot be read.
nlohmann::json read_yaml_file(const std::filesystem::path& file, size_t max_bytes = 1 << 20);

}  // namespace ospnext
