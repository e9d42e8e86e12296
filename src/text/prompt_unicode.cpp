// Text as code points, based on ICU.
#include "text/prompt_unicode.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>

#include "core/error.h"

namespace ospnext {
namespace {

void check(UErrorCode status) {
  if (U_FAILURE(status)) {
    throw RunError(std::string("ICU: ") + u_errorName(status));
  }
}

icu::UnicodeString to_icu(const Text& text) {
  return icu::UnicodeString::fromUTF32(reinterpret_cast<const UChar32*>(text.data()),
                                       static_cast<int32_t>(text.size()));
}

Text from_icu(const icu::UnicodeString& text) {
  Text result(static_cast<size_t>(text.countChar32()), U'\0');
  UErrorCode status = U_ZERO_ERROR;
  text.toUTF32(reinterpret_cast<UChar32*>(result.data()), static_cast<int32_t>(result.size()),
               status);
  check(status);
  return result;
}

Text normalise(const icu::Normalizer2* form, UErrorCode status, const Text& text) {
  check(status);
  const icu::UnicodeString result = form->normalize(to_icu(text), status);
  check(status);
  return from_icu(result);
}

}  // namespace

std::optional<Text> decode_utf8(std::string_view bytes) {
  Text text;
  text.reserve(bytes.size());
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  for (size_t i = 0; i < bytes.size();) {
    UChar32 c = 0;
    U8_NEXT(data, i, bytes.size(), c);
    if (c < 0) {
      return std::nullopt;
    }
    text.push_back(static_cast<char32_t>(c));
  }
  return text;
}

std::string encode_utf8(std::u32string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (const char32_t c : text) {
    char buffer[U8_MAX_LENGTH];
    int32_t length = 0;
    U8_APPEND_UNSAFE(buffer, length, c);
    bytes.append(buffer, static_cast<size_t>(length));
  }
  return bytes;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 ||
         (c >= 0x80 && (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_Z_MASK) != 0);
}

bool is_word(char32_t c) {
  return c == '_' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
}

bool is_digit(char32_t c) {
  return u_charType(static_cast<UChar32>(c)) == U_DECIMAL_DIGIT_NUMBER;
}

Text normalise_nfc(const Text& text) {
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x300; })) {
    return text;  // characters below U+0300 do not compose
  }
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* form = icu::Normalizer2::getNFCInstance(status);
  return normalise(form, status, text);
}

Text normalise_nfkc(const Text& text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* form = icu::Normalizer2::getNFKCInstance(status);
  return normalise(form, status, text);
}

Text upper_case(const Text& text) {
  return from_icu(to_icu(text).toUpper(icu::Locale::getRoot()));
}

}  // namespace ospnext
