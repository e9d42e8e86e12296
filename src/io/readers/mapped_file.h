// Maps a whole file read-only into memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace ospnext {

// A read-only mapping of a regular file, released by the destructor. The file must not shrink while
// it is mapped.
class MappedFile {
 public:
  // Throws InputError if the file is missing, unreadable, empty or not a regular file, or if it is
  // the text file that Git LFS puts in place of a large file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  bool contains(const std::byte* address) const;

  // Prefetches the pages of [begin, begin + size), a range in the mapping.
  void fetch_pages(const std::byte* begin, size_t size) const noexcept;

  // Releases the memory of the pages that lie completely in [begin, begin + size). Reading them
  // again loads them from the file. The range must lie in the mapping.
  void drop_pages(const std::byte* begin, size_t size) const noexcept;

 private:
  void refuse_lfs_pointer();

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ospnext
