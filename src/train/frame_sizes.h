// The frame sizes of a training. The first takes half of the clips, the others share the rest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ospnext {

struct FrameSize {
  int64_t height = 0, width = 0;  // pixels
  double share = 0;               // of the clips; the shares of all sizes add up to 1
};

// Parses texts such as "128x128" (height x width, pixels). Throws InputError naming `field` for an
// empty list, and for a text that is not a pair of multiples of 16 from 32 to 4096.
std::vector<FrameSize> parse_frame_sizes(const std::string& field,
                                         const std::vector<std::string>& texts);

// Picks a size by its share: the index that belongs to a uniform draw in [0, 1).
size_t pick_frame_size(const std::vector<FrameSize>& sizes, double uniform);

}  // namespace ospnext
