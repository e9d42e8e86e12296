// Cleaning of a prompt before it is tokenised.
#include "text/prompt_cleaning.h"

#include "core/error.h"
#include "text/prompt_html.h"
#include "text/prompt_repairs.h"
#include "text/prompt_unicode.h"

namespace ospnext {
namespace {

// The words of `text`, with one blank between two words.
Text with_single_blanks(const Text& text) {
  Text result;
  for (const char32_t c : text) {
    if (!is_space(c)) {
      result.push_back(c);
    } else if (!result.empty() && result.back() != ' ') {
      result.push_back(U' ');
    }
  }
  if (!result.empty() && result.back() == ' ') {
    result.pop_back();
  }
  return result;
}

}  // namespace

std::string clean_prompt(std::string_view utf8) {
  const std::optional<Text> text = decode_utf8(utf8);
  if (!text) {
    throw InputError("prompt: found bytes that are not UTF-8, expected UTF-8 text");
  }
  return encode_utf8(with_single_blanks(unescape_html(unescape_html(fix_text(*text)))));
}

}  // namespace ospnext
