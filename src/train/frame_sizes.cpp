#include "train/frame_sizes.h"

#include <cstdio>

#include "core/error.h"

namespace ospnext {

std::vector<FrameSize> parse_frame_sizes(const std::string& field,
                                         const std::vector<std::string>& texts) {
  if (texts.empty()) {
    throw InputError(field + ": found none, expected at least one size like 128x128");
  }
  std::vector<FrameSize> sizes;
  for (const std::string& text : texts) {
    long long height = 0, width = 0;
    int end = 0;
    const int found = std::sscanf(text.c_str(), "%lldx%lld%n", &height, &width, &end);
    const bool whole = found == 2 && static_cast<size_t>(end) == text.size();
    const auto fits = [](long long side) { return side >= 32 && side <= 4096 && side % 16 == 0; };
    if (!whole || !fits(height) || !fits(width)) {
      throw InputError(
          field + ": found \"" + text +
          "\", expected height x width like 128x128, both multiples of 16 from 32 to 4096");
    }
    const double share = texts.size() == 1 ? 1.0
                         : sizes.empty()   ? 0.5
                                           : 0.5 / static_cast<double>(texts.size() - 1);
    sizes.push_back({.height = height, .width = width, .share = share});
  }
  return sizes;
}

size_t pick_frame_size(const std::vector<FrameSize>& sizes, double uniform) {
  size_t index = 0;
  for (double end = sizes[0].share; uniform >= end && index + 1 < sizes.size();
       end += sizes[index].share) {
    ++index;
  }
  return index;
}

}  // namespace ospnext
