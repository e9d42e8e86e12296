// Repair of mojibake: text whose UTF-8 bytes were decoded with another encoding.
#include "text/prompt_mojibake.h"

#include <algorithm>
#include <array>
#include <vector>

namespace ospnext {
namespace {

constexpr size_t kNumCodePages = 10;
constexpr char32_t kHighHalves[kNumCodePages][128] =
#include "text/prompt_code_pages.inc"
    ;
constexpr size_t kLatin1 = 0;
constexpr size_t kWindows1252 = 1;
constexpr size_t kFirstStrict = 7;  // the pages 1 to 6 are Windows code pages
constexpr size_t kMacRoman = 8;

constexpr uint8_t kLost = 0x1a;  // this byte stands for a lost one

// Whether U+FFFD stands for a byte that could not be decoded. So it is in Windows code pages.
bool has_lost_bytes(size_t page) {
  return page != kLatin1 && page < kFirstStrict;
}

// Encodes `text` with `page`; nothing if that is not possible.
std::optional<std::string> encode(const Text& text, size_t page) {
  std::string bytes;
  const auto& high = kHighHalves[page];
  for (const char32_t c : text) {
    if (has_lost_bytes(page) && (c == kLost || c == 0xfffd)) {
      if (c == kLost) {
        return std::nullopt;
      }
      bytes.push_back(static_cast<char>(kLost));
    } else if (c < 0x80) {
      bytes.push_back(static_cast<char>(c));
    } else {
      const auto* found = std::find(std::begin(high), std::end(high), c);
      if (found == std::end(high)) {
        return std::nullopt;
      }
      bytes.push_back(static_cast<char>(0x80 + (found - high)));
    }
  }
  return bytes;
}

// A set of bytes in a pattern: a range and a few others.
struct ByteClass {
  uint8_t first;
  uint8_t last;
  std::string_view others = {};

  bool fits(char c) const {
    const auto byte = static_cast<uint8_t>(c);
    return (byte >= first && byte <= last) || others.find(c) != std::string_view::npos;
  }
};

using BytePattern = std::vector<ByteClass>;

// The length of the first pattern that matches at text[at]; 0 if none does.
size_t match(const std::vector<BytePattern>& patterns, std::string_view text, size_t at) {
  for (const BytePattern& pattern : patterns) {
    if (pattern.size() <= text.size() - at &&
        std::equal(pattern.begin(), pattern.end(), text.begin() + static_cast<ptrdiff_t>(at),
                   [](const ByteClass& place, char byte) { return place.fits(byte); })) {
      return pattern.size();
    }
  }
  return 0;
}

// UTF-8 sequences in which the byte A0 became a space; only those that give likely characters.
// Source: ftfy chardata.ALTERED_UTF8_RE.
const std::vector<BytePattern>& spaced_sequences() {
  constexpr ByteClass kSpace{0x20, 0x20};
  constexpr ByteClass kFollows{0x80, 0xbf};
  constexpr ByteClass kNarrow{0xa1, 0xbf,
                              "\x80\x81\x82\x83\x84\x86\x87\x88\x89\x8a\x8b\x8c\x8d"
                              "\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98\x99\x9a"
                              "\x9b\x9c\x9d\x9e\x9f"};  // neither 85 nor A0
  static const std::vector<BytePattern> patterns{
      {{0xc2, 0xc3, "\xc5\xce\xd0\xd9"}, kSpace},
      {{0xe2, 0xe3}, kSpace, kNarrow},
      {{0xe0, 0xe3}, kNarrow, kSpace},
      {{0xf0, 0xf0}, kSpace, kFollows, kFollows},
      {{0xf0, 0xf0}, kFollows, kSpace, kFollows},
      {{0xf0, 0xf0}, kFollows, kFollows, kSpace},
  };
  return patterns;
}

// UTF-8 sequences, and surrogate pairs of CESU-8, in which some bytes are lost; at most one of
// these became a "?".
// Source: ftfy chardata.LOSSY_UTF8_RE.
const std::vector<BytePattern>& lossy_sequences() {
  constexpr ByteClass kGone{kLost, kLost};
  constexpr ByteClass kAsked{kLost, kLost, "?"};
  constexpr ByteClass kMaybe{0x80, 0xbf, "\x1a"};
  constexpr ByteClass kSurrogate{0xed, 0xed};
  constexpr ByteClass kHigh{0xa0, 0xaf};
  constexpr ByteClass kLow{0xb0, 0xbf};
  constexpr ByteClass kAny{0x80, 0xbf, "\x1a?"};
  static const std::vector<BytePattern> patterns{
      {{0xc2, 0xdf}, kGone},
      {{0xc2, 0xc3}, {'?', '?'}},
      {kSurrogate, kHigh, kAsked, kSurrogate, kLow, kAny},
      {kSurrogate, kHigh, kAny, kSurrogate, kLow, kAsked},
      {{0xe0, 0xef}, kAsked, kMaybe},
      {{0xe0, 0xef}, kMaybe, kAsked},
      {{0xf0, 0xf4}, kAsked, kMaybe, kMaybe},
      {{0xf0, 0xf4}, kMaybe, kAsked, kMaybe},
      {{0xf0, 0xf4}, kMaybe, kMaybe, kAsked},
      {kGone},
  };
  return patterns;
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return text.substr(0, word.size()) == word; });
}

// Restores the byte A0 where a space replaced it. A single "à" keeps the space after it, except in
// Portuguese contractions. Source: ftfy fixes.restore_byte_a0.
std::string restore_nonbreaking_spaces(const std::string& bytes) {
  std::string separated;
  for (size_t i = 0; i < bytes.size(); ++i) {
    separated.push_back(bytes[i]);
    const std::string_view rest = std::string_view(bytes).substr(i);
    if (starts_with_any(rest, {"\xc3 "}) &&
        !starts_with_any(rest.substr(2), {" ", "quele", "quela", "quilo", "s "})) {
      separated.push_back('\xa0');
    }
  }
  for (size_t i = 0; i < separated.size();) {
    const size_t length = match(spaced_sequences(), separated, i);
    for (size_t k = i; k < i + length; ++k) {
      separated[k] = separated[k] == ' ' ? '\xa0' : separated[k];
    }
    i += std::max<size_t>(length, 1);
  }
  return separated;
}

// Replaces each sequence with lost bytes by U+FFFD. Source: ftfy fixes.replace_lossy_sequences.
std::string replace_lossy_sequences(const std::string& bytes) {
  std::string result;
  for (size_t i = 0; i < bytes.size();) {
    const size_t length = match(lossy_sequences(), bytes, i);
    result += length > 0 ? std::string("\xef\xbf\xbd") : bytes.substr(i, 1);
    i += std::max<size_t>(length, 1);
  }
  return result;
}

// Decodes UTF-8 and two variants that some programs write: surrogate pairs with three bytes each,
// and the zero character in two bytes. Source: ftfy bad_codecs/utf_8_variants.py.
std::optional<Text> decode_utf8_variants(const std::string& bytes) {
  static const std::vector<BytePattern> kPair{
      {{0xed, 0xed}, {0xa0, 0xaf}, {0x80, 0xbf}, {0xed, 0xed}, {0xb0, 0xbf}, {0x80, 0xbf}}};
  std::string standard;
  const auto bits = [&](size_t at, unsigned mask) {
    return static_cast<char32_t>(static_cast<uint8_t>(bytes[at]) & mask);
  };
  for (size_t i = 0; i < bytes.size();) {
    if (match(kPair, bytes, i) > 0) {
      const char32_t c = 0x10000 + (bits(i + 1, 0x0f) << 16) + (bits(i + 2, 0x3f) << 10) +
                         (bits(i + 4, 0x0f) << 6) + bits(i + 5, 0x3f);
      standard += encode_utf8({&c, 1});
      i += 6;
    } else if (bytes.compare(i, 2, "\xc0\x80") == 0) {
      standard.push_back('\0');
      i += 2;
    } else {
      standard.push_back(bytes[i++]);
    }
  }
  return decode_utf8(standard);
}

// The length of the run of sequences at text[at] that look like UTF-8 decoded with a one-byte
// encoding; 0 if there is none. Source: ftfy chardata.UTF8_DETECTOR_RE.
size_t misread_run(const Text& text, size_t at) {
  if (at > 0 && (categories_of(text[at - 1]) & kUtf8ContinuationStrict) != 0) {
    return 0;  // inside longer mojibake: do not repair only a part of it
  }
  size_t end = at;
  while (end < text.size()) {
    const uint32_t lead = categories_of(text[end]);
    const size_t follow = (lead & kUtf8FirstOf2) != 0   ? 1
                          : (lead & kUtf8FirstOf3) != 0 ? 2
                          : (lead & kUtf8FirstOf4) != 0 ? 3
                                                        : 0;
    if (follow == 0 || end + follow >= text.size()) {
      break;
    }
    const auto first = text.begin() + static_cast<ptrdiff_t>(end) + 1;
    if (!std::all_of(first, first + static_cast<ptrdiff_t>(follow),
                     [](char32_t c) { return (categories_of(c) & kUtf8Continuation) != 0; })) {
      break;
    }
    end += follow + 1;
  }
  return end - at;
}

// Repairs wrongly decoded runs inside text that cannot be repaired as a whole.
// Source: ftfy fixes.decode_inconsistent_utf8.
Text fix_misread_runs(const Text& text) {
  Text result;
  for (size_t i = 0; i < text.size();) {
    const size_t length = misread_run(text, i);
    const Text run = text.substr(i, std::max<size_t>(length, 1));
    const bool part = length > 0 && length < text.size();
    result += part && looks_like_mojibake(run) ? fix_encoding(run) : run;
    i += run.size();
  }
  return result;
}

bool is_c1(char32_t c) {
  return c >= 0x80 && c <= 0x9f;
}

// One step of repair; returns the text itself if there is nothing to repair.
Text fix_encoding_once(const Text& text) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x80; });
  if (ascii || !looks_like_mojibake(text)) {
    return text;
  }
  for (size_t page = 0; page < kNumCodePages; ++page) {
    std::optional<std::string> bytes = encode(text, page);
    if (!bytes) {
      continue;
    }
    if (page != kMacRoman) {  // in MacRoman a dash and a space would match
      bytes = restore_nonbreaking_spaces(*bytes);
    }
    if (has_lost_bytes(page)) {
      bytes = replace_lossy_sequences(*bytes);
    }
    if (std::optional<Text> fixed = decode_utf8_variants(*bytes)) {
      return *fixed;
    }
  }
  Text fixed = fix_misread_runs(text);
  return fixed != text ? fixed : fix_c1_controls(text);
}

}  // namespace

Text fix_encoding(Text text) {
  while (true) {
    Text fixed = fix_encoding_once(text);
    if (fixed == text) {
      return text;
    }
    text = std::move(fixed);
  }
}

Text fix_c1_controls(Text text) {
  for (char32_t& c : text) {
    c = is_c1(c) ? kHighHalves[kWindows1252][c - 0x80] : c;
  }
  return text;
}

}  // namespace ospnext
