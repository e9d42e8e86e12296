// Text as code points, for the repairs of clean_prompt.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ospnext {

using Text = std::u32string;

// The code points of UTF-8 text, or nothing if the bytes are not UTF-8. Surrogates and overlong
// forms are not UTF-8.
std::optional<Text> decode_utf8(std::string_view bytes);
std::string encode_utf8(std::u32string_view text);

// White space as in Python's str.isspace(), str.strip() and the regular expression \s.
bool is_space(char32_t c);
// The characters that Python's regular expressions \w and \d match.
bool is_word(char32_t c);
bool is_digit(char32_t c);

Text normalise_nfc(const Text& text);
Text normalise_nfkc(const Text& text);
// Full upper case, independent of language. One character may become several.
Text upper_case(const Text& text);

}  // namespace ospnext
