// Reads the directory of a zip archive and locates its entries.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/readers/mapped_file.h"

namespace ospnext {

struct ZipEntry {
  bool stored = true;               // false: compressed with deflate
  std::span<const std::byte> data;  // as stored in the file, perhaps compressed
  uint64_t size = 0;                // uncompressed size; data.size() if stored
};

// Whether the bytes start with a zip entry.
bool looks_like_zip(std::span<const std::byte> bytes);

// Maps entry names to entries. Reads zip and zip64. Refuses split and encrypted archives and
// repeated names. Throws InputError. Source: PKWARE APPNOTE.TXT 4.3.
std::map<std::string, ZipEntry> read_zip(const MappedFile& file);

// The bytes of a small entry, inflated if compressed. Throws InputError, beginning with `origin`,
// if the entry is larger than `max_bytes` or damaged.
std::vector<std::byte> read_zip_entry(const ZipEntry& entry, uint64_t max_bytes,
                                      const std::string& origin);

}  // namespace ospnext
