// Flags that accept one of a few words.
#pragma once

#include <array>
#include <string>
#include <utility>

#include "core/error.h"

namespace ospnext {

// The value of `word` in `choices`. Throws an InputError `flag: found "x", expected a, b or c`.
template <class Value, size_t count>
Value one_of(const std::string& flag, const std::string& word,
             const std::array<std::pair<const char*, Value>, count>& choices) {
  std::string expected;
  for (size_t i = 0; i < count; ++i) {
    if (word == choices[i].first) {
      return choices[i].second;
    }
    expected += (i == 0 ? "" : i + 1 == count ? " or " : ", ") + std::string(choices[i].first);
  }
  throw InputError(flag + ": found \"" + word + "\", expected " + expected);
}

}  // namespace ospnext
