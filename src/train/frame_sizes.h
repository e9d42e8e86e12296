// The frame sizes a training mixes: the first takes half of the clips, the others share the rest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ospnext {

struct FrameSize {
  int64_t height = 0, width = 0;  // pixels
  double share = 0;               // of the clips; all shares add up to 1
};

// From texts such as "128x128" (height x width). Throws InputError naming `field` for an empty list or
// a text that is no pair of multiples of 16.
std::vector<FrameSize> parse_frame_sizes(const std::string& field,
                                         const std::vector<std::string>& texts);

// The index of the size that a uniform draw in [0, 1) falls on.
size_t pick_frame_size(const std::vector<FrameSize>& sizes, double uniform);

}  // namespace ospnext
