// Reads the central directory of a zip file with checked bounds.
#include "io/readers/zip_reader.h"

#include <zlib.h>

#include <algorithm>

#include "core/error.h"
#include "io/readers/byte_cursor.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

constexpr uint32_t kLocalMagic = 0x04034b50;
constexpr uint32_t kCentralMagic = 0x02014b50;
constexpr uint32_t kEndMagic = 0x06054b50;
constexpr uint32_t kEnd64Magic = 0x06064b50;
constexpr uint32_t kLocator64Magic = 0x07064b50;
constexpr size_t kEndBytes = 22;  // without the comment
constexpr size_t kLocator64Bytes = 20;
constexpr size_t kMaxCommentBytes = 65535;
constexpr uint64_t kMaxDirectoryBytes = 16 << 20;  // 1,000 tensors need 0.1 MB
constexpr uint32_t kIn64 = UINT32_MAX;             // the value is in a zip64 record
constexpr uint16_t kStored = 0;
constexpr uint16_t kDeflated = 8;
constexpr uint16_t kExtra64 = 1;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw InputError(path + ": " + what + ": the zip archive is damaged or cut off");
}

// `count` bytes of the file from `offset` on. Both numbers come from the file, so they are checked.
std::span<const std::byte> slice(const MappedFile& file, uint64_t offset, uint64_t count,
                                 const char* what) {
  const auto bytes = file.bytes();
  if (offset > bytes.size() || count > bytes.size() - offset) {
    refuse(file.path(), std::string(what) + " lies outside the file");
  }
  return bytes.subspan(offset, count);
}

struct Directory {
  uint64_t entries = 0;
  uint64_t size = 0;
  uint64_t offset = 0;
};

// The offset of the end record. It is searched from the end of the file, because a comment may
// follow.
size_t find_end(const MappedFile& file) {
  const auto bytes = file.bytes();
  if (bytes.size() >= kEndBytes) {
    const size_t last = bytes.size() - kEndBytes;
    const size_t first = last - std::min(last, kMaxCommentBytes);
    for (size_t at = last + 1; at-- > first;) {
      if (ByteCursor(bytes.subspan(at), file.path()).u32() == kEndMagic) {
        return at;
      }
    }
  }
  refuse(file.path(), "no end record was found");
}

Directory read_end64(const MappedFile& file, size_t end) {
  if (end < kLocator64Bytes) {
    refuse(file.path(), "the zip64 locator is missing");
  }
  ByteCursor locator(slice(file, end - kLocator64Bytes, kLocator64Bytes, "the zip64 locator"),
                     file.path());
  if (locator.u32() != kLocator64Magic) {
    refuse(file.path(), "the zip64 locator is missing");
  }
  locator.u32();  // disk
  ByteCursor record(slice(file, locator.u64(), 56, "the zip64 end record"), file.path());
  if (record.u32() != kEnd64Magic) {
    refuse(file.path(), "the zip64 end record is missing");
  }
  record.take(8 + 2 + 2 + 4 + 4 + 8);  // size, versions, disks, entries on this disk
  Directory directory;
  directory.entries = record.u64();
  directory.size = record.u64();
  directory.offset = record.u64();
  return directory;
}

Directory read_end(const MappedFile& file) {
  const size_t end = find_end(file);
  ByteCursor record(slice(file, end, kEndBytes, "the end record"), file.path());
  record.take(4);
  const uint16_t disk = record.u16();
  const uint16_t directory_disk = record.u16();
  const uint16_t entries_here = record.u16();
  Directory directory;
  directory.entries = record.u16();
  directory.size = record.u32();
  directory.offset = record.u32();
  const bool in64 =
      directory.entries == UINT16_MAX || directory.size == kIn64 || directory.offset == kIn64;
  if (in64) {
    return read_end64(file, end);
  }
  if (disk != 0 || directory_disk != 0 || entries_here != directory.entries) {
    throw InputError(file.path() + ": zip archives in several parts are not read");
  }
  return directory;
}

// Replaces the values that are in the zip64 extra field. The format defines their order.
void read_extra64(ByteCursor extra, uint64_t& size, uint64_t& compressed, uint64_t& offset) {
  while (extra.remaining() >= 4) {
    const uint16_t id = extra.u16();
    const uint16_t length = extra.u16();
    if (id != kExtra64) {
      extra.take(length);
      continue;
    }
    for (uint64_t* value : {&size, &compressed, &offset}) {
      if (*value == kIn64) {
        *value = extra.u64();
      }
    }
    return;
  }
}

// The data of an entry. It follows the local header, which has its own lengths of name and extra
// field.
std::span<const std::byte> entry_data(const MappedFile& file, uint64_t offset, uint64_t size) {
  ByteCursor local(slice(file, offset, 30, "an entry"), file.path());
  if (local.u32() != kLocalMagic) {
    refuse(file.path(), "an entry's header is missing");
  }
  local.take(22);
  const uint64_t name_length = local.u16();
  const uint64_t extra_length = local.u16();
  return slice(file, offset + 30 + name_length + extra_length, size, "an entry");
}

}  // namespace

bool looks_like_zip(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && ByteCursor(bytes, "").u32() == kLocalMagic;
}

std::map<std::string, ZipEntry> read_zip(const MappedFile& file) {
  const std::string& path = file.path();
  const Directory directory = read_end(file);
  if (directory.size > kMaxDirectoryBytes) {
    throw InputError(path + ": found a zip directory of " + std::to_string(directory.size) +
                     " bytes, expected at most " + std::to_string(kMaxDirectoryBytes));
  }
  ByteCursor cursor(slice(file, directory.offset, directory.size, "the directory"), path);
  std::map<std::string, ZipEntry> entries;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (cursor.u32() != kCentralMagic) {
      refuse(path, "an entry of the directory is missing");
    }
    cursor.take(4);  // versions
    const uint16_t flags = cursor.u16();
    const uint16_t method = cursor.u16();
    cursor.take(8);  // time, CRC
    uint64_t compressed = cursor.u32();
    uint64_t size = cursor.u32();
    const uint16_t name_length = cursor.u16();
    const uint16_t extra_length = cursor.u16();
    const uint16_t comment_length = cursor.u16();
    cursor.take(8);  // disk, attributes
    uint64_t offset = cursor.u32();
    const std::string name(cursor.text(name_length));
    read_extra64(ByteCursor(cursor.take(extra_length), path), size, compressed, offset);
    cursor.take(comment_length);
    if ((flags & 1) != 0 || (method != kStored && method != kDeflated)) {
      throw InputError(path + ": the zip entry " + quoted(name) +
                       " is encrypted or compressed in a way that "
                       "is not read");
    }
    if (method == kStored && compressed != size) {
      refuse(path, "the stored entry " + quoted(name) + " has two sizes");
    }
    const ZipEntry entry{method == kStored, entry_data(file, offset, compressed), size};
    if (!entries.emplace(name, entry).second) {
      throw InputError(path + ": the zip entry " + quoted(name) + " occurs twice");
    }
  }
  return entries;
}

std::vector<std::byte> read_zip_entry(const ZipEntry& entry, uint64_t max_bytes,
                                      const std::string& origin) {
  if (entry.size > max_bytes) {
    throw InputError(origin + ": expected at most " + std::to_string(max_bytes) + " bytes, found " +
                     std::to_string(entry.size));
  }
  if (entry.stored) {
    return {entry.data.begin(), entry.data.end()};
  }
  std::vector<std::byte> bytes(entry.size + 1);  // one more byte reveals a stream that is too long
  z_stream stream{};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(entry.data.data()));
  stream.avail_in = static_cast<uInt>(std::min<uint64_t>(entry.data.size(), UINT32_MAX));
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  int result = ::inflateInit2(&stream, -MAX_WBITS);  // raw deflate
  if (result == Z_OK) {
    result = ::inflate(&stream, Z_FINISH);
    ::inflateEnd(&stream);
  }
  if (result != Z_STREAM_END || stream.total_out != entry.size) {
    throw InputError(origin + ": the compressed data are damaged");
  }
  bytes.resize(entry.size);
  return bytes;
}

}  // namespace ospnext
