// Masks of frames: 1 or 0 for each pixel, in row-major order, frame after frame.
#pragma once

#include <cstdint>
#include <vector>

namespace ospnext {

using Mask = std::vector<uint8_t>;  // [T * H * W]

// 1 for a pixel if any pixel of its frame is 1 that is at most `margin` rows and columns away.
Mask dilated(const Mask& mask, int64_t H, int64_t W, int64_t margin);
// 1 for a pixel if all those pixels are 1.
Mask eroded(const Mask& mask, int64_t H, int64_t W, int64_t margin);
// The first pixel from number `from` on that is 1; the number of pixels if there is none.
int64_t next_set(const Mask& mask, int64_t from);

// Calls visit(i) for each pixel i from `begin` to `end` - 1 that is 1 when its turn comes.
template <class Visit>
void each_set(const Mask& mask, int64_t begin, int64_t end, const Visit& visit) {
  for (int64_t i = next_set(mask, begin); i < end; i = next_set(mask, i + 1)) {
    visit(i);
  }
}
template <class Visit>
void each_set(const Mask& mask, const Visit& visit) {
  each_set(mask, 0, static_cast<int64_t>(mask.size()), visit);
}

}  // namespace ospnext
