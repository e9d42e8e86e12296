// What the tests of readers share: a folder that goes away, refusals, and hand-made files.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "support/paths.h"

namespace ospnext {

// A fixture with an empty folder, removed afterwards.
class ReaderTest : public ::testing::Test {
 protected:
  ReaderTest() {
    std::string name = (std::filesystem::temp_directory_path() / "reader_test.XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~ReaderTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }

  std::filesystem::path folder_;
};

// Expects that `action` throws an InputError of one line that begins with `file` and says `what`.
template <class Action>
void expect_refused(Action&& action, const std::filesystem::path& file, const std::string& what) {
  try {
    action();
    ADD_FAILURE() << "not refused, expected: " << what;
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with(file.string())) << message;
    EXPECT_NE(message.find(what), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

inline std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    text += static_cast<char>(i < 8 ? value >> (8 * i) & 0xff : 0);
  }
  return text;
}

// A safetensors file of this header and these data.
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

// A file as torch.save writes it, of this pickle program and one storage "0" of 16 bytes.
inline std::string torch_file_bytes(const std::string& program) {
  return zip_bytes(
      {{"a/data.pkl", program}, {"a/byteorder", "little"}, {"a/data/0", std::string(16, '\1')}});
}

}  // namespace ospnext
