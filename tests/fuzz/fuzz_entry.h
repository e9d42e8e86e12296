// Code shared by the fuzzing entries. An entry runs one reader on bytes and may throw only
// InputError.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "core/error.h"
#include "io/readers/tensor_file.h"

namespace ospnext::fuzz {

using Entry = void (*)(std::string_view input);

// Ends the program if a claim is false. libFuzzer and the replay report that as a finding.
inline void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

// Runs an entry. A refusal must be an InputError with one line of readable length.
inline void run(Entry entry, std::string_view input) {
  constexpr size_t kLongestMessage = 2000;
  try {
    entry(input);
  } catch (const InputError& error) {
    const std::string_view message = error.what();
    require(!message.empty() && message.size() < kLongestMessage);
    require(message.find('\n') == message.npos);
  }
}

// All entries of this program by name. The name is also that of the entry's file and corpus folder.
inline std::map<std::string, Entry>& entries() {
  static std::map<std::string, Entry> all;
  return all;
}

// A file in memory with a path, while the object exists.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("input", MFD_CLOEXEC)) {
    require(descriptor_ >= 0);
    require(::write(descriptor_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

// A folder of files with fixed names, while the object exists.
class Folder {
 public:
  explicit Folder(const std::map<std::string, std::string_view>& files) {
    std::string name = (std::filesystem::temp_directory_path() / "fuzz.XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    for (const auto& [file, bytes] : files) {
      const int descriptor = ::open((path_ / file).c_str(), O_WRONLY | O_CREAT, 0600);
      require(descriptor >= 0);
      require(::write(descriptor, bytes.data(), bytes.size()) ==
              static_cast<ssize_t>(bytes.size()));
      ::close(descriptor);
    }
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Removes the first line from `input` and returns it.
inline std::string take_line(std::string_view& input) {
  const size_t end = std::min(input.find('\n'), input.size());
  std::string line(input.substr(0, end));
  input.remove_prefix(std::min(end + 1, input.size()));
  return line;
}

// Reads as a loader would: the first and the last byte of every tensor.
inline void touch(const TensorMap& tensors) {
  volatile unsigned char sink = 0;
  for (const auto& [name, record] : tensors) {
    require(record.shape.size() == record.strides.size());
    int64_t last = 0;
    for (size_t i = 0; i < record.shape.size() && record.bytes > 0; ++i) {
      last += (record.shape[i] - 1) * record.strides[i];
    }
    if (record.bytes > 0) {
      const size_t end = (static_cast<size_t>(last) + 1) * item_size(record.dtype);
      require(end <= record.bytes);
      sink = sink + static_cast<unsigned char>(record.data[0]);
      sink = sink + static_cast<unsigned char>(record.data[end - 1]);
      require(!record.is_contiguous() || byte_count(record.shape, item_size(record.dtype)) ==
                                             static_cast<int64_t>(record.bytes));
    }
    static_cast<void>(scalar_value(record));
  }
}

}  // namespace ospnext::fuzz

// Defines the entry `name`; the function body follows. A libFuzzer program has one entry, the
// replay has all.
#ifdef OSPNEXT_LIBFUZZER
#define FUZZ_ENTRY(name)                                                          \
  static void fuzz_##name(std::string_view input);                                \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {       \
    ospnext::fuzz::run(fuzz_##name, {reinterpret_cast<const char*>(data), size}); \
    return 0;                                                                     \
  }                                                                               \
  static void fuzz_##name(std::string_view input)
#else
#define FUZZ_ENTRY(name)                                           \
  static void fuzz_##name(std::string_view input);                 \
  static const bool name##_is_listed =                             \
      ospnext::fuzz::entries().emplace(#name, fuzz_##name).second; \
  static void fuzz_##name(std::string_view input)
#endif
