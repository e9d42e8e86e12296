// Repairs of damaged text, in the order and with the defaults of ftfy.fix_text.
#include "text/prompt_repairs.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/prompt_html.h"
#include "text/prompt_mojibake.h"

namespace ospnext {
namespace {

constexpr size_t kMaxSegment = 1'000'000;  // longer lines are repaired in parts of this length
constexpr int kMaxRounds = 1000;           // "&amp;amp;amp;..." needs one round per level

// Source: ftfy chardata.LIGATURES.
constexpr std::pair<char32_t, std::u32string_view> kLigatures[] = {
    {U'Ĳ', U"IJ"},  {U'ĳ', U"ij"},  {U'ŉ', U"ʼn"}, {U'Ǳ', U"DZ"}, {U'ǲ', U"Dz"}, {U'ǳ', U"dz"},
    {U'Ǆ', U"DŽ"},  {U'ǅ', U"Dž"},  {U'ǆ', U"dž"}, {U'Ǉ', U"LJ"}, {U'ǈ', U"Lj"}, {U'ǉ', U"lj"},
    {U'Ǌ', U"NJ"},  {U'ǋ', U"Nj"},  {U'ǌ', U"nj"}, {U'ﬀ', U"ff"}, {U'ﬁ', U"fi"}, {U'ﬂ', U"fl"},
    {U'ﬃ', U"ffi"}, {U'ﬄ', U"ffl"}, {U'ﬅ', U"ſt"}, {U'ﬆ', U"st"},
};

Text fix_ligatures(const Text& text) {
  Text result;
  for (const char32_t c : text) {
    const auto* found = std::find_if(std::begin(kLigatures), std::end(kLigatures),
                                     [c](const auto& entry) { return entry.first == c; });
    if (found == std::end(kLigatures)) {
      result.push_back(c);
    } else {
      result += found->second;
    }
  }
  return result;
}

// Replaces full-width and half-width forms, and the ideographic space, by the usual characters.
Text fix_width(const Text& text) {
  Text result;
  for (const char32_t c : text) {
    if (c >= 0xff01 && c <= 0xffef) {
      result += normalise_nfkc({c});
    } else {
      result.push_back(c == 0x3000 ? U' ' : c);
    }
  }
  return result;
}

Text uncurl_quotes(Text text) {
  for (char32_t& c : text) {
    if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) {
      c = '\'';
    } else if (c >= 0x201c && c <= 0x201f) {
      c = '"';
    }
  }
  return text;
}

Text fix_line_ends(const Text& text) {
  Text result;
  for (size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n') {
      continue;
    }
    const bool ends = c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85;
    result.push_back(ends ? U'\n' : c);
  }
  return result;
}

// Removes sequences of ESC [, digits and semicolons, and a letter: colours and cursor movements.
Text remove_terminal_escapes(const Text& text) {
  Text result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == 0x1b && i + 1 < text.size() && text[i + 1] == '[') {
      size_t end = i + 2;
      while (end < text.size() && (text[end] == ';' || is_digit(text[end]))) {
        ++end;
      }
      if (end < text.size() && (text[end] | 0x20) >= 'a' && (text[end] | 0x20) <= 'z') {
        i = end;
        continue;
      }
    }
    result.push_back(text[i]);
  }
  return result;
}

// Removes invisible characters that no text needs: ASCII controls except white space, deprecated
// format controls, annotation marks, the object replacement character, the byte order mark.
Text remove_controls(Text text) {
  const auto unwanted = [](char32_t c) {
    return c <= 0x08 || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f ||
           (c >= 0x206a && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
  };
  text.erase(std::remove_if(text.begin(), text.end(), unwanted), text.end());
  return text;
}

Text fix_segment(Text text, bool unescape) {
  for (int round = 0; round < kMaxRounds; ++round) {
    Text fixed = unescape ? unescape_html_with_semicolon(text) : text;
    fixed = fix_c1_controls(fix_encoding(std::move(fixed)));
    fixed = uncurl_quotes(fix_width(fix_ligatures(fixed)));
    fixed = remove_controls(remove_terminal_escapes(fix_line_ends(fixed)));
    fixed = normalise_nfc(fixed);
    if (fixed == text) {
      break;
    }
    text = std::move(fixed);
  }
  return text;
}

}  // namespace

Text fix_text(const Text& text) {
  Text result;
  bool unescape = true;
  for (size_t begin = 0; begin < text.size();) {
    const size_t line_end = text.find(U'\n', begin);
    const size_t end = line_end == Text::npos ? text.size() : line_end + 1;
    const Text segment = text.substr(begin, std::min(end - begin, kMaxSegment));
    unescape = unescape && segment.find(U'<') == Text::npos;  // real HTML keeps its references
    result += fix_segment(segment, unescape);
    begin += segment.size();
  }
  return result;
}

}  // namespace ospnext
