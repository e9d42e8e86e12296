// Code shared by the tests of readers: a temporary folder, and checks of error messages.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.h"
#include "io/readers/file_bytes.h"
#include "support/paths.h"

namespace ospnext {

// A fixture with an empty folder, which is removed after the test.
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

// Expects an InputError of one line that begins with `file` and contains `what`.
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

}  // namespace ospnext
