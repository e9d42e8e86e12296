// Builds files of the readers' formats byte by byte, for tests and fuzzing.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ospnext {

inline std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    text += static_cast<char>(i < 8 ? value >> (8 * i) & 0xff : 0);
  }
  return text;
}

// A safetensors file with this header and this data.
inline std::string safetensors_bytes(const std::string& header, const std::string& data = "") {
  return little_endian(header.size(), 8) + header + data;
}

// A zip archive of stored entries (name, content); checksums are left zero.
inline std::string zip_bytes(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string bytes;
  std::string directory;
  for (const auto& [name, content] : entries) {
    // method and time, CRC, two sizes, length of the name
    const std::string common = little_endian(0, 2) + little_endian(0, 2) + little_endian(0, 8) +
                               little_endian(content.size(), 4) + little_endian(content.size(), 4) +
                               little_endian(name.size(), 2) + little_endian(0, 2);
    directory += "PK\x01\x02" + little_endian(20, 2) + little_endian(20, 2) + common +
                 little_endian(0, 10) + little_endian(bytes.size(), 4) + name;
    bytes += "PK\x03\x04" + little_endian(20, 2) + common + name + content;
  }
  const size_t offset = bytes.size();
  return bytes + directory + "PK\x05\x06" + little_endian(0, 4) + little_endian(entries.size(), 2) +
         little_endian(entries.size(), 2) + little_endian(directory.size(), 4) +
         little_endian(offset, 4) + little_endian(0, 2);
}

// A file as torch.save writes it, with this pickle program and one storage "0" of 16 bytes.
inline std::string torch_file_bytes(const std::string& program) {
  return zip_bytes(
      {{"a/data.pkl", program}, {"a/byteorder", "little"}, {"a/data/0", std::string(16, '\1')}});
}

}  // namespace ospnext
