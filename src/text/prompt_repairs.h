// Repairs of glitches in text, in the order and with the defaults of ftfy.fix_text.
#pragma once

#include "text/prompt_unicode.h"

namespace ospnext {

// Line by line and again until nothing changes: HTML references (until a line has a "<"), mojibake, Latin
// ligatures, full-width and half-width forms, curly quotes, line ends, terminal escapes, control
// characters, NFC. docs/prompt_cleaning.md lists each. Source: ftfy 6.3.1 fix_text.
Text fix_text(const Text& text);

}  // namespace ospnext
