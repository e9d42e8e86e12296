// Repair of text whose UTF-8 bytes were read in another encoding ("cafÃ©" for "café").
#pragma once

#include <cstdint>

#include "text/prompt_unicode.h"

namespace ospnext {

// One or more classes of prompt_character_categories.inc that a character belongs to.
struct CharacterRange {
  char32_t first;
  char32_t last;
  uint32_t categories;
};

// Source: ftfy chardata.UTF8_CLUES, badness.MOJIBAKE_CATEGORIES.
#include "text/prompt_character_categories.inc"

// The categories of `c`, 0 for most characters.
uint32_t categories_of(char32_t c);

// Whether some characters stand together in a way that is far likelier in mojibake than in writing.
// Source: ftfy badness.is_bad.
bool looks_like_mojibake(std::u32string_view text);

// Reads the text back into bytes, and the bytes as UTF-8, as long as the text looks like mojibake and
// that is possible; else repairs the parts of it that can be.
// Source: ftfy fix_encoding.
Text fix_encoding(Text text);

// C1 control characters as the Windows-1252 characters of their bytes.
// Source: ftfy fixes.fix_c1_controls.
Text fix_c1_controls(Text text);

}  // namespace ospnext
