#include "core/name_pattern.h"

#include <algorithm>

#include "core/error.h"

namespace ospnext {

// After a mismatch behind a "*", the last "*" takes one more character and the rest is tried again.
bool fits_pattern(std::string_view name, std::string_view pattern) {
  size_t n = 0, p = 0;
  size_t star = pattern.npos, star_end = 0;  // the last "*", and where in `name` its part ends
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != pattern.npos) {
      p = star + 1;
      n = ++star_end;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

bool fits_ending(std::string_view name, std::string_view pattern) {
  return fits_pattern(name, pattern) || fits_pattern(name, "*." + std::string(pattern));
}

std::vector<std::string> fitting_names(const std::vector<std::string>& names,
                                       const std::vector<std::string>& patterns,
                                       bool (*fits)(std::string_view, std::string_view),
                                       const std::string& field, const std::string& what) {
  for (const std::string& pattern : patterns) {
    if (std::ranges::none_of(names, [&](const auto& name) { return fits(name, pattern); })) {
      throw InputError(field + ": found \"" + pattern + "\", which fits none of " + what);
    }
  }
  std::vector<std::string> fitting;
  std::ranges::copy_if(names, std::back_inserter(fitting), [&](const std::string& name) {
    return std::ranges::any_of(patterns, [&](const auto& one) { return fits(name, one); });
  });
  return fitting;
}

}  // namespace ospnext
