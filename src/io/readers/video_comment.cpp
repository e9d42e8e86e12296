#include "io/readers/video_comment.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/readers/byte_cursor.h"
#include "io/readers/mapped_file.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

constexpr uint64_t kMostBytes = 16 << 20;  // of a comment

uint64_t big_endian(ByteCursor& cursor, int count) {
  uint64_t value = 0;
  for (; count > 0; --count) {
    value = value << 8 | cursor.u8();
  }
  return value;
}

// The next `size` bytes as text. Throws InputError if there are too many.
std::string bounded_text(ByteCursor& cursor, uint64_t size, const std::string& origin) {
  if (size > kMostBytes) {
    throw InputError(origin + ": found a comment of " + std::to_string(size) +
                     " bytes, expected at most " + std::to_string(kMostBytes));
  }
  return std::string(cursor.text(size));
}

// ---- .mp4: nested boxes. Source: ISO/IEC 14496-12; Apple's metadata item list.

std::string mp4_comment(ByteCursor cursor, const std::string& origin) {
  constexpr std::array<std::string_view, 6> kPath = {"moov",
                                                     "udta",
                                                     "meta",
                                                     "ilst",
                                                     "\xa9"
                                                     "cmt",
                                                     "data"};
  size_t level = 0;
  while (cursor.remaining() >= 8) {
    uint64_t size = big_endian(cursor, 4);
    const std::string_view type = cursor.text(4);
    uint64_t header = 8;
    if (size == 1) {
      size = big_endian(cursor, 8);
      header = 16;
    } else if (size == 0) {
      size = header + cursor.remaining();
    }
    if (size < header) {
      throw InputError(origin + ": a box of the file has an impossible size: the file is damaged");
    }
    const auto content = cursor.take(size - header);
    if (type == kPath[level]) {
      cursor = ByteCursor(content, origin);
      ++level;
      if (type == "meta") {
        cursor.u32();  // version and flags
      } else if (level == kPath.size()) {
        cursor.u64();  // type of text and language
        return bounded_text(cursor, cursor.remaining(), origin);
      }
    }
  }
  return "";
}

// ---- .webm: EBML elements. Source: RFC 8794; RFC 9559.

struct Element {
  uint64_t id = 0;
  std::span<const std::byte> content;
};

// A number with its length given by the first byte. Ids keep the marker bit, sizes do not.
// `unknown` is set if all bits are ones.
uint64_t ebml_number(ByteCursor& cursor, bool keep_marker, bool* unknown) {
  const uint8_t first = cursor.u8();
  int more = 0;
  while (more < 8 && (first & (0x80 >> more)) == 0) {
    ++more;
  }
  uint64_t value = keep_marker ? first : first & (0x7f >> more);
  uint64_t ones = 0x7f >> more;
  for (int i = 0; i < more; ++i) {
    value = value << 8 | cursor.u8();
    ones = ones << 8 | 0xff;
  }
  if (unknown != nullptr) {
    *unknown = value == ones;
  }
  return value;
}

Element next_element(ByteCursor& cursor) {
  Element element;
  element.id = ebml_number(cursor, true, nullptr);
  bool unknown = false;
  const uint64_t size = ebml_number(cursor, false, &unknown);
  element.content = cursor.take(unknown ? cursor.remaining() : size);
  return element;
}

std::string tag_comment(std::span<const std::byte> simple_tag, const std::string& origin) {
  constexpr uint64_t kName = 0x45a3, kText = 0x4487;
  ByteCursor cursor(simple_tag, origin);
  bool is_comment = false;
  std::string text;
  while (cursor.remaining() > 0) {
    const Element element = next_element(cursor);
    ByteCursor content(element.content, origin);
    if (element.id == kName) {
      is_comment = content.text(content.remaining()) == "COMMENT";
    } else if (element.id == kText) {
      text = bounded_text(content, content.remaining(), origin);
    }
  }
  return is_comment ? text : "";
}

std::string webm_comment(ByteCursor cursor, const std::string& origin) {
  // The ids of Segment, Tags, Tag and SimpleTag, from the outside in. Tags and Tag may repeat.
  constexpr std::array<uint64_t, 4> kPath = {0x18538067, 0x1254c367, 0x7373, 0x67c8};
  std::vector<ByteCursor> open = {std::move(cursor)};
  while (!open.empty()) {
    if (open.back().remaining() == 0) {
      open.pop_back();
      continue;
    }
    const Element element = next_element(open.back());
    if (element.id != kPath[open.size() - 1]) {
      continue;
    }
    if (open.size() < kPath.size()) {
      open.emplace_back(element.content, origin);
    } else if (std::string text = tag_comment(element.content, origin); !text.empty()) {
      return text;
    }
  }
  return "";
}

// ---- .gif. Source: CompuServe, GIF89a.

// Skips or reads sub-blocks up to the empty one. Appends their bytes to `text` unless it is null.
void take_sub_blocks(ByteCursor& cursor, std::string* text) {
  while (const uint8_t size = cursor.u8()) {
    const std::string_view block = cursor.text(size);
    if (text != nullptr && text->size() < kMostBytes) {
      text->append(block);
    }
  }
}

// Skips the colour table described by a byte of flags.
void skip_colours(ByteCursor& cursor, uint8_t flags) {
  if ((flags & 0x80) != 0) {
    cursor.take(uint64_t{3} << ((flags & 7) + 1));
  }
}

std::string gif_comment(ByteCursor cursor, const std::string& origin) {
  cursor.take(6 + 4);  // signature, width, height
  const uint8_t flags = cursor.u8();
  cursor.take(2);
  skip_colours(cursor, flags);
  while (true) {
    const uint8_t introducer = cursor.u8();
    if (introducer == 0x3b) {
      return "";
    }
    if (introducer == 0x21) {
      std::string text;
      const bool is_comment = cursor.u8() == 0xfe;
      take_sub_blocks(cursor, is_comment ? &text : nullptr);
      if (is_comment) {
        return text;
      }
    } else if (introducer == 0x2c) {
      cursor.take(8);
      const uint8_t image_flags = cursor.u8();
      skip_colours(cursor, image_flags);
      cursor.take(1);
      take_sub_blocks(cursor, nullptr);
    } else {
      throw InputError(origin + ": a block of the file is of no known kind: the file is damaged");
    }
  }
}

// ---- .webp: RIFF chunks with an XMP packet.

constexpr std::string_view kXmpBegin = "<rdf:li xml:lang=\"x-default\">", kXmpEnd = "</rdf:li>";
constexpr std::array<std::pair<char, std::string_view>, 5> kEntities = {
    {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&apos;"}}};

std::string unescape_xml(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    size_t length = 1;
    char sign = text.front();
    for (const auto& [character, entity] : kEntities) {
      if (text.starts_with(entity)) {
        sign = character;
        length = entity.size();
      }
    }
    plain += sign;
    text.remove_prefix(length);
  }
  return plain;
}

std::string xmp_to_comment(const std::string& packet) {
  const size_t begin = packet.find(kXmpBegin);
  const size_t end = begin == packet.npos ? begin : packet.find(kXmpEnd, begin);
  if (end == packet.npos) {
    return "";
  }
  const size_t text = begin + kXmpBegin.size();
  return unescape_xml(std::string_view(packet).substr(text, end - text));
}

std::string webp_comment(ByteCursor cursor, const std::string& origin) {
  cursor.take(12);
  while (cursor.remaining() > 0) {
    const std::string_view name = cursor.text(4);
    const uint64_t size = cursor.u32();
    if (name == "XMP ") {
      return xmp_to_comment(bounded_text(cursor, size, origin));
    }
    cursor.take(size + size % 2);
  }
  return "";
}

// ---- .png: chunks. Source: PNG specification, 5.3 and 11.3.3.4.

std::string png_comment(ByteCursor cursor, const std::string& origin) {
  constexpr std::string_view kPlainComment("Comment\0\0\0\0\0", 12);  // not compressed, no language
  cursor.take(8);
  while (cursor.remaining() > 0) {
    const uint64_t size = big_endian(cursor, 4);
    const std::string_view type = cursor.text(4);
    if (type == "iTXt" && size <= kMostBytes) {
      const std::string text = bounded_text(cursor, size, origin);
      if (text.starts_with(kPlainComment)) {
        return text.substr(kPlainComment.size());
      }
    } else {
      cursor.take(size);
    }
    cursor.take(4);  // check sum
  }
  return "";
}

}  // namespace

std::string read_video_comment(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  const std::string origin = mapped.path();
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 12));
  const ByteCursor cursor(bytes, origin);
  if (head.substr(0, 8).ends_with("ftyp")) {
    return mp4_comment(cursor, origin);
  }
  if (head.starts_with("\x1a\x45\xdf\xa3")) {
    return webm_comment(cursor, origin);
  }
  if (head.starts_with("GIF8")) {
    return gif_comment(cursor, origin);
  }
  if (head.starts_with("RIFF") && head.ends_with("WEBP")) {
    return webp_comment(cursor, origin);
  }
  if (head.starts_with("\x89PNG\r\n\x1a\n")) {
    return png_comment(cursor, origin);
  }
  const std::string found = head.starts_with("YUV4MPEG2")
                                ? ".y4m, which keeps no comment"
                                : ospnext::quoted(std::string(head.substr(0, 8)));
  throw InputError(origin + ": expected a video or PNG that keeps a comment, found " + found);
}

std::string comment_to_xmp(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    std::string_view written(&c, 1);
    for (const auto& [character, entity] : kEntities) {
      if (c == character) {
        written = entity;
      }
    }
    escaped += written;
  }
  return "<?xpacket begin=\"\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>"
         "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
         "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
         "<rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\">"
         "<dc:description><rdf:Alt>" +
         std::string(kXmpBegin) + escaped + std::string(kXmpEnd) +
         "</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end=\"w\"?>";
}

}  // namespace ospnext
