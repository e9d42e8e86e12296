// Character references of HTML in prompts.
#include "text/prompt_html.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <unordered_map>

namespace ospnext {
namespace {

constexpr std::string_view kNames =
#include "text/prompt_html_entities.inc"
    ;

struct Entity {
  Text value;
  bool needs_semicolon;
};

using Entities = std::unordered_map<std::string, Entity>;

const Entities& entities() {
  static const Entities table = [] {
    Entities parsed;
    std::istringstream words{std::string(kNames)};
    for (std::string name, codes; words >> name >> codes;) {
      Entity entity{{}, name.front() != '!'};
      for (const char* at = codes.data(); at < codes.data() + codes.size(); ++at) {
        uint32_t code = 0;
        at = std::from_chars(at, codes.data() + codes.size(), code, 16).ptr;
        entity.value.push_back(code);
      }
      parsed.emplace(entity.needs_semicolon ? name : name.substr(1), std::move(entity));
    }
    return parsed;
  }();
  return table;
}

bool is_ascii_digit(char32_t c) {
  return c >= '0' && c <= '9';
}

int hex_value(char32_t c) {
  if (is_ascii_digit(c)) {
    return static_cast<int>(c - '0');
  }
  const char32_t lower = c | 0x20;
  return lower >= 'a' && lower <= 'f' ? static_cast<int>(lower - 'a') + 10 : -1;
}

// The text that a numeric reference to code point `code` gives.
// Source: HTML standard, numeric character reference end state.
Text character_of(uint32_t code) {
  constexpr char32_t kWindows1252[] =  // the characters of the bytes 0x80 to 0x9F
      U"\u20ac\x81\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\x8d\u017d\x8f"
      U"\x90\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\x9d\u017e"
      U"\u0178";
  if (code >= 0x80 && code <= 0x9f) {
    return {kWindows1252[code - 0x80]};
  }
  if (code == 0 || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) {
    return {U'\ufffd'};
  }
  const bool control = code < 0x20 && code != '\t' && code != '\n' && code != '\f' && code != '\r';
  const bool noncharacter = (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) == 0xfffe;
  return control || code == 0x7f || noncharacter ? Text() : Text{static_cast<char32_t>(code)};
}

// Reads the number at text[at], after "&#": decimal, or hexadecimal after an x. Moves `at` behind
// the digits. Without digits it returns nothing and does not move `at`.
std::optional<uint32_t> read_number(const Text& text, size_t& at) {
  size_t i = at;
  const bool hex = i < text.size() && (text[i] | 0x20) == 'x';
  i += hex ? 1 : 0;
  const size_t first = i;
  const int base = hex ? 16 : 10;
  uint64_t number = 0;
  for (; i < text.size(); ++i) {
    const int digit = hex_value(text[i]);
    if (digit < 0 || digit >= base) {
      break;
    }
    number = std::min<uint64_t>(number * base + digit, 0x110000);  // 0x110000: no character
  }
  if (i == first) {
    return std::nullopt;
  }
  at = i;
  return static_cast<uint32_t>(number);
}

// Resolves a named reference. text[at] is the first character after "&". Appends the value of the
// longest known name and the rest of the word to `result`; without a known name, "&" and the word.
// Returns the position behind the word.
size_t append_named(const Text& text, size_t at, Text& result) {
  constexpr size_t kLongestWord = 32;
  constexpr std::u32string_view kEnds = U"\t\n\f <&#;";
  size_t end = at;
  std::string word;
  while (end < text.size() && end - at < kLongestWord &&
         kEnds.find(text[end]) == std::u32string_view::npos) {
    word.push_back(text[end] < 0x80 ? static_cast<char>(text[end]) : '\xff');
    ++end;
  }
  const bool semicolon = !word.empty() && end < text.size() && text[end] == ';';
  const size_t whole = word.size();
  for (size_t length = whole; length >= 2; --length) {
    word.resize(length);
    const auto found = entities().find(word);
    const bool ended = semicolon && length == whole;
    if (found != entities().end() && (ended || !found->second.needs_semicolon)) {
      result += found->second.value;
      result.append(text, at + length + (ended ? 1 : 0),
                    whole - length + (semicolon && !ended ? 1 : 0));
      return end + (semicolon ? 1 : 0);
    }
  }
  result += U'&';
  result.append(text, at, end - at);
  return end;
}

bool is_ascii_alphanumeric(char32_t c) {
  return is_ascii_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

// The value of &name;. If there is no such name but `name` is in capitals and the name in small
// letters exists, the value of the latter in capitals.
std::optional<Text> named_value(const std::string& name) {
  const auto found = entities().find(name);
  if (found != entities().end()) {
    return found->second.value;
  }
  std::string small = name;
  std::transform(name.begin(), name.end(), small.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  const bool capitals = std::none_of(name.begin(), name.end(), [](char c) { return c >= 'a'; });
  const auto base = entities().find(small);
  if (!capitals || base == entities().end()) {
    return std::nullopt;
  }
  const Text reference = decode_utf8("&" + name + ";").value();
  if (unescape_html(reference) != reference) {
    return std::nullopt;  // it begins with an HTML name that needs no semicolon
  }
  return upper_case(base->second.value);
}

// The value of a reference; `inside` is the text between "&" and ";".
std::optional<Text> reference_value(const Text& inside) {
  if (inside.front() != '#') {
    return named_value(std::string(inside.begin(), inside.end()));
  }
  size_t at = 1;
  const auto number = read_number(inside, at);
  if (!number || at != inside.size() || *number == ';') {
    return std::nullopt;
  }
  return character_of(*number);
}

}  // namespace

Text unescape_html(const Text& text) {
  Text result;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '&') {
      result.push_back(text[i++]);
      continue;
    }
    ++i;
    size_t behind = i + 1;
    const auto number =
        i < text.size() && text[i] == '#' ? read_number(text, behind) : std::nullopt;
    if (number) {
      result += character_of(*number);
      i = behind + (behind < text.size() && text[behind] == ';' ? 1 : 0);
    } else {
      i = append_named(text, i, result);
    }
  }
  return result;
}

Text unescape_html_with_semicolon(const Text& text) {
  constexpr size_t kLongestWord = 24;
  Text result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '&') {
      size_t end = i + 1;
      end += end < text.size() && text[end] == '#' ? 1 : 0;
      const size_t first = end;
      while (end < text.size() && end - first < kLongestWord && is_ascii_alphanumeric(text[end])) {
        ++end;
      }
      if (end > first && end < text.size() && text[end] == ';') {
        if (const auto value = reference_value(text.substr(i + 1, end - i - 1))) {
          result += *value;
          i = end;
          continue;
        }
      }
    }
    result.push_back(text[i]);
  }
  return result;
}

}  // namespace ospnext
