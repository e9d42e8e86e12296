#include "data/tiny_world/frame_masks.h"

#include <cstddef>
#include <cstring>
#include <functional>

namespace ospnext {
namespace {

// Marks what is at most `margin` places behind a 1, in `lines` lines side by side: element (i, l)
// is at i * step + l * stride. The time does not depend on the margin.
void mark_behind(const uint8_t* in, uint8_t* out, int64_t length, int64_t step, int64_t lines,
                 int64_t stride, int64_t margin) {
  std::vector<int64_t> since(static_cast<size_t>(lines), margin + 1);  // places since the last 1
  for (int64_t i = 0; i < length; ++i) {
    const uint8_t* const from = in + i * step;
    uint8_t* const to = out + i * step;
    for (int64_t l = 0; l < lines; ++l) {
      int64_t& places = since[static_cast<size_t>(l)];
      places = from[l * stride] != 0 ? 0 : places + 1;
      to[l * stride] |= static_cast<uint8_t>(places <= margin);
    }
  }
}

// Each value combined with its neighbours in the frame, which compilers make vectors of.
// combine(value, other): or, for dilated(), and, for eroded(), both by one place
template <class Combine>
Mask with_neighbours(const Mask& mask, int64_t H, int64_t W, const Combine& combine) {
  Mask wide = mask;
  for (size_t first = 0; first < mask.size(); first += static_cast<size_t>(W)) {  // each row
    const uint8_t* const from = mask.data() + first;
    uint8_t* const to = wide.data() + first;
    for (int64_t x = 1; x < W; ++x) {
      to[x] = combine(to[x], from[x - 1]);
    }
    for (int64_t x = 1; x < W; ++x) {
      to[x - 1] = combine(to[x - 1], from[x]);
    }
  }
  Mask result = wide;
  const int64_t pixels = H * W;
  for (size_t first = 0; first < mask.size(); first += static_cast<size_t>(pixels)) {  // each frame
    const uint8_t* const from = wide.data() + first;
    uint8_t* const to = result.data() + first;
    for (int64_t i = W; i < pixels; ++i) {
      to[i] = combine(to[i], from[i - W]);
    }
    for (int64_t i = W; i < pixels; ++i) {
      to[i - W] = combine(to[i - W], from[i]);
    }
  }
  return result;
}

}  // namespace

Mask dilated(const Mask& mask, int64_t H, int64_t W, int64_t margin) {
  if (margin == 1) {
    return with_neighbours(mask, H, W, std::bit_or<uint8_t>());
  }
  const auto size = static_cast<int64_t>(mask.size());
  Mask wide(mask.size(), 0), result(mask.size(), 0);
  for (int64_t first = 0; first < size; first += W) {  // along each row
    mark_behind(&mask[first], &wide[first], W, 1, 1, 1, margin);
    mark_behind(&mask[first + W - 1], &wide[first + W - 1], W, -1, 1, 1, margin);
  }
  for (int64_t first = 0; first < size; first += H * W) {  // along the columns of each frame
    const int64_t last_row = first + (H - 1) * W;
    mark_behind(&wide[first], &result[first], H, W, W, 1, margin);
    mark_behind(&wide[last_row], &result[last_row], H, -W, W, 1, margin);
  }
  return result;
}

Mask eroded(const Mask& mask, int64_t H, int64_t W, int64_t margin) {
  Mask narrow = mask;
  for (int64_t i = 0; i < margin; ++i) {
    narrow = with_neighbours(narrow, H, W, std::bit_and<uint8_t>());
  }
  return narrow;
}

int64_t next_set(const Mask& mask, int64_t from) {
  const auto size = static_cast<int64_t>(mask.size());
  if (from >= size) {
    return size;
  }
  const void* const found = std::memchr(mask.data() + from, 1, static_cast<size_t>(size - from));
  return found == nullptr ? size : static_cast<const uint8_t*>(found) - mask.data();
}

}  // namespace ospnext
