// Repairs of damaged text, in the order and with the defaults of ftfy.fix_text.
#pragma once

#include "text/prompt_unicode.h"

namespace ospnext {

// Repairs each line repeatedly until nothing changes: HTML references (only before the first line
// with a "<"), mojibake, Latin ligatures, full-width and half-width forms, curly quotes, line ends,
// terminal escapes, control characters, NFC. docs/prompt_cleaning.md describes each repair.
// Source: ftfy 6.3.1 fix_text.
Text fix_text(const Text& text);

}  // namespace ospnext
