// Range checks of numbers that a user gives.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"

namespace ospnext {

// Throws an InputError like "`steps`: found 0, expected 1 to 1000" unless low <= value <= high. NaN
// is never in range.
template <class Number>
void check_range(const std::string& flag, Number value, Number low, Number high) {
  if (!(value >= low && value <= high)) {
    const auto text = [](Number number) {
      if constexpr (std::is_floating_point_v<Number>) {
        if (!std::isfinite(number)) {
          return std::to_string(number);
        }
      }
      return nlohmann::json(number).dump();
    };
    throw InputError(flag + ": found " + text(value) + ", expected " + text(low) + " to " +
                     text(high));
  }
}

}  // namespace ospnext
