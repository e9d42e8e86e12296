#include "train/event_file.h"

#include <unistd.h>

#include <bit>
#include <chrono>
#include <string_view>

#include "io/output_file.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// The bytes of a number, as both records and protobuf store them.
template <class Number>
std::string bytes_of(Number number) {
  static_assert(std::endian::native == std::endian::little);
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

// CRC-32C, bit by bit: a record has about a hundred bytes, so a table would not pay. The rotation
// and the constant are TensorFlow's "mask", for checksums that stand in checked data themselves.
std::string checksum(std::string_view data) {
  constexpr uint32_t kPolynomial = 0x82F63B78, kMask = 0xA282EAD8;
  uint32_t crc = ~0U;
  for (const char byte : data) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) * kPolynomial);
    }
  }
  return bytes_of(std::rotr(~crc, 15) + kMask);
}

// Protobuf's wire format: 7 bits a byte, the lowest first; the high bit says that more follow.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) {
    bytes += static_cast<char>(value | 0x80);
  }
  return bytes + static_cast<char>(value);
}

// A field is a key, the field's number and the type of what follows, and the value.
enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string key(uint64_t field, WireType type) {
  return varint(field << 3 | type);
}

std::string integer_field(uint64_t field, int64_t value) {
  return key(field, kVarint) + varint(static_cast<uint64_t>(value));
}

std::string bytes_field(uint64_t field, const std::string& value) {  // a string or a message
  return key(field, kBytes) + varint(value.size()) + value;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

fs::path free_name(const fs::path& folder) {
  char host[256] = {};
  static_cast<void>(::gethostname(host, sizeof host - 1));  // a name without host is as good
  fs::path file;
  std::error_code ignored;
  auto seconds = static_cast<int64_t>(now());
  do {
    file = folder / ("events.out.tfevents." + std::to_string(seconds++) + "." + host);
  } while (fs::exists(file, ignored));
  return file;
}

}  // namespace

EventFile::EventFile(const fs::path& folder, int64_t first_step)
    : file_(free_name(folder)), out_(file_, std::ios::binary) {
  const std::string version = bytes_field(/*file_version*/ 3, "brain.Event:2");
  const std::string start =
      bytes_field(/*session_log*/ 7, integer_field(/*status*/ 1, /*START*/ 1));
  write_event(0, now(), version);
  write_event(first_step + 1, now(), start);  // the first step that is discarded
}

void EventFile::add(int64_t step, double wall_time,
                    const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    const std::string simple_value = key(2, kFixed32) + bytes_of(static_cast<float>(value));
    summary += bytes_field(/*value*/ 1, bytes_field(/*tag*/ 1, tag) + simple_value);
  }
  write_event(step, wall_time, bytes_field(/*summary*/ 5, summary));
}

void EventFile::write_event(int64_t step, double wall_time, const std::string& content) {
  const std::string event = key(/*wall_time*/ 1, kFixed64) + bytes_of(wall_time) +
                            integer_field(/*step*/ 2, step) + content;
  const std::string length = bytes_of(uint64_t{event.size()});
  out_ << length << checksum(length) << event << checksum(event) << std::flush;
  check_written(out_, file_);
}

}  // namespace ospnext
