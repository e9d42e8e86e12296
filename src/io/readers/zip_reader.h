// Directory of a zip archive and the place of its entries.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/readers/mapped_file.h"

namespace ospnext {

struct ZipEntry {
  bool stored = true;               // false: compressed with deflate
  std::span<const std::byte> data;  // as it lies in the file
  uint64_t size = 0;                // bytes once inflated; data.size() when stored
};

// Whether the bytes begin with a zip entry.
bool looks_like_zip(std::span<const std::byte> bytes);

// Entry name -> entry. Reads zip and zip64; refuses split and encrypted archives and names that occur
// twice. Throws InputError. Source: PKWARE APPNOTE.TXT 4.3.
std::map<std::string, ZipEntry> read_zip(const MappedFile& file);

// The bytes of a small entry, inflated when compressed. Throws InputError, beginning with `origin`,
// when it is larger than `max_bytes` or damaged.
std::vector<std::byte> read_zip_entry(const ZipEntry& entry, uint64_t max_bytes,
                                      const std::string& origin);

}  // namespace ospnext
