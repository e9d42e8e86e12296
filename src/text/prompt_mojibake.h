// Repair of mojibake: text whose UTF-8 bytes were decoded with another encoding ("cafÃ©" for
// "café").
#pragma once

#include <cstdint>

#include "text/prompt_unicode.h"

namespace ospnext {

// A range of characters that all belong to the same classes of prompt_character_categories.inc.
struct CharacterRange {
  char32_t first;
  char32_t last;
  uint32_t categories;
};

// Source: ftfy chardata.UTF8_CLUES, badness.MOJIBAKE_CATEGORIES.
#include "text/prompt_character_categories.inc"

// The categories of `c`, bits of Category; 0 for most characters.
uint32_t categories_of(char32_t c);

// Whether the text contains a sequence of characters that is much more likely in mojibake than in
// real text. Source: ftfy badness.is_bad.
bool looks_like_mojibake(std::u32string_view text);

// Encodes the text back to bytes and decodes these as UTF-8, repeatedly, while the text looks like
// mojibake and this is possible. If it is not possible for the whole text, repairs parts of it.
// Source: ftfy fix_encoding.
Text fix_encoding(Text text);

// Replaces C1 control characters by the Windows-1252 characters of the same bytes.
// Source: ftfy fixes.fix_c1_controls.
Text fix_c1_controls(Text text);

}  // namespace ospnext
