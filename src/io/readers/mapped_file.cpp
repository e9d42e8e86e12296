// Maps a file with mmap.
#include "io/readers/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string_view>

#include "core/error.h"

namespace ospnext {
namespace {

// Closes the descriptor. The mapping stays valid.
struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) {
      ::close(value);
    }
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path.string()) {
  // With O_NONBLOCK, open() does not wait for a named pipe, which is refused below.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) {
    throw InputError(path_ + ": cannot open the file: " + std::strerror(errno));
  }
  struct stat status {};
  if (::fstat(file.value, &status) != 0) {
    throw InputError(path_ + ": cannot read the file's size: " + std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    throw InputError(path_ + ": expected a regular file");
  }
  if (status.st_size == 0) {
    throw InputError(path_ + ": the file is empty");
  }
  size_ = static_cast<size_t>(status.st_size);
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.value, 0);
  if (mapping == MAP_FAILED) {
    throw InputError(path_ + ": cannot map the file into memory: " + std::strerror(errno));
  }
  data_ = static_cast<const std::byte*>(mapping);
  refuse_lfs_pointer();
}

void MappedFile::refuse_lfs_pointer() {
  constexpr std::string_view kPointer = "version https://git-lfs";
  if (std::string_view(reinterpret_cast<const char*>(data_), size_).starts_with(kPointer)) {
    ::munmap(const_cast<std::byte*>(data_), size_);
    throw InputError(path_ +
                     ": this is a Git LFS pointer, expected the file it stands for: "
                     "fetch it with git lfs pull");
  }
}

MappedFile::~MappedFile() {
  ::munmap(const_cast<std::byte*>(data_), size_);
}

bool MappedFile::contains(const std::byte* address) const {
  const std::less_equal<const std::byte*> not_after;
  return not_after(data_, address) && !not_after(data_ + size_, address);
}

void MappedFile::fetch_pages(const std::byte* begin, size_t size) const noexcept {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(begin) / page * page;
  const size_t length = reinterpret_cast<uintptr_t>(begin) + size - first;
  // One call for all pages avoids a page fault for each. Some kernels do not support it.
  if (::madvise(reinterpret_cast<void*>(first), length, MADV_POPULATE_READ) != 0) {
    ::madvise(reinterpret_cast<void*>(first), length, MADV_WILLNEED);
  }
}

void MappedFile::drop_pages(const std::byte* begin, size_t size) const noexcept {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  const auto last = (reinterpret_cast<uintptr_t>(begin) + size) / page * page;
  if (first < last) {
    ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }
}

}  // namespace ospnext
