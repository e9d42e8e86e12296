// A whole file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace ospnext {

// Read-only mapping of a regular file, gone with the object. The file must not shrink meanwhile.
class MappedFile {
 public:
  // Throws InputError when the file is missing, unreadable, empty or not a regular file, and when
  // it is the pointer that Git LFS leaves in the place of a large one.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  bool contains(const std::byte* address) const;

  // Asks for the pages of [begin, begin + size), a range in the mapping, ahead of their use.
  void fetch_pages(const std::byte* begin, size_t size) const noexcept;

  // Gives back the memory of the pages that lie wholly in [begin, begin + size); reading them again
  // fetches them from the file. The range must lie in the mapping.
  void drop_pages(const std::byte* begin, size_t size) const noexcept;

 private:
  void refuse_lfs_pointer();

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ospnext
