// Bounds-checked reading of little-endian values from bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace ospnext {

// Reads forward through `bytes`. Reading past the end throws InputError, beginning with `origin`.
class ByteCursor {
 public:
  ByteCursor(std::span<const std::byte> bytes, std::string origin)
      : bytes_(bytes), origin_(std::move(origin)) {}

  std::span<const std::byte> take(uint64_t count) {
    if (count > bytes_.size() - position_) {
      throw InputError(origin_ + ": the data end too early: the file is damaged or cut off");
    }
    const auto part = bytes_.subspan(position_, count);
    position_ += count;
    return part;
  }
  std::string_view text(uint64_t count) {
    const auto part = take(count);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  // Reads up to the next newline. The newline is consumed but not returned.
  std::string_view line() {
    const auto rest = bytes_.subspan(position_);
    const std::string_view view{reinterpret_cast<const char*>(rest.data()), rest.size()};
    const auto end = view.find('\n');
    return text(end == view.npos ? UINT64_MAX : end + 1).substr(0, end);
  }
  uint8_t u8() { return static_cast<uint8_t>(little_endian(1)); }
  uint16_t u16() { return static_cast<uint16_t>(little_endian(2)); }
  uint32_t u32() { return static_cast<uint32_t>(little_endian(4)); }
  uint64_t u64() { return little_endian(8); }

  // A little-endian unsigned number of at most 8 bytes.
  uint64_t little_endian(size_t count) {
    uint64_t value = 0;
    int shift = 0;
    for (const std::byte byte : take(count)) {
      value |= std::to_integer<uint64_t>(byte) << shift;
      shift += 8;
    }
    return value;
  }

  size_t remaining() const { return bytes_.size() - position_; }

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
  std::string origin_;
};

}  // namespace ospnext
