// Patterns of the names of parameters and layers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

// Whether `pattern` is the whole name; each "*" in it stands for any characters, none and dots
// included.
bool fits_pattern(std::string_view name, std::string_view pattern);

// The same, or whether it is the end of the name after a dot: "self_attn.q" fits
// "blocks.0.self_attn.q". Without "*", this is how PEFT compares layers with its target_modules.
bool fits_ending(std::string_view name, std::string_view pattern);

// The names that one of the patterns fits, in the order of `names`. `fits`: one of the functions
// above. Throws InputError `FIELD: found "PATTERN", which fits none of WHAT` for a pattern that
// fits no name.
std::vector<std::string> fitting_names(const std::vector<std::string>& names,
                                       const std::vector<std::string>& patterns,
                                       bool (*fits)(std::string_view, std::string_view),
                                       const std::string& field, const std::string& what);

}  // namespace ospnext
