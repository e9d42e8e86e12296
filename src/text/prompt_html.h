// Character references of HTML in prompts.
#pragma once

#include "text/prompt_unicode.h"

namespace ospnext {

// Resolves all numeric and named references by the rules of HTML5: the longest known name counts,
// some names need no semicolon, invalid numbers become U+FFFD or nothing.
// Source: Python html.unescape.
Text unescape_html(const Text& text);

// Resolves only references that end with a semicolon, among them names in capitals (&EACUTE;).
// Source: ftfy fixes.unescape_html.
Text unescape_html_with_semicolon(const Text& text);

}  // namespace ospnext
