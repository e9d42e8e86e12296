// Character references of HTML in prompts.
#pragma once

#include "text/prompt_unicode.h"

namespace ospnext {

// Every reference, numeric or named, by the rules of HTML5: the longest known name counts, some names do
// without the semicolon, impossible numbers become U+FFFD or nothing.
// Source: Python html.unescape.
Text unescape_html(const Text& text);

// Only references that end with a semicolon, and names that were put in capitals (&EACUTE;).
// Source: ftfy fixes.unescape_html.
Text unescape_html_with_semicolon(const Text& text);

}  // namespace ospnext
