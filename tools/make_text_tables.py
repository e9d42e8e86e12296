"""Writes the tables src/text/prompt_*.inc from Python's html.entities and codecs and from ftfy's
character classes.

Run it from the repository root, in an environment with ftfy 6.3.1 (Apache License 2.0).
"""

import html.entities
import re
import textwrap
from pathlib import Path

from ftfy.badness import MOJIBAKE_CATEGORIES
from ftfy.chardata import CHARMAP_ENCODINGS, UTF8_CLUES

FOLDER = Path("src/text")


def write(name, first_line, body):
    (FOLDER / name).write_text(f"// {first_line}\n// Written by tools/make_text_tables.py.\n// clang-format off\n{body}\n// clang-format on\n")


def camel(name):
    return "k" + "".join(part.capitalize() for part in name.split("_"))


def make_entities():
    words = []
    for name, value in sorted(html.entities.html5.items()):
        if name.endswith(";"):
            legacy = name[:-1] in html.entities.html5
            words.append(("!" if legacy else "") + name[:-1] + " " + "+".join(f"{ord(c):X}" for c in value))
    lines = textwrap.wrap(" ".join(words), 100, break_long_words=False, break_on_hyphens=False)
    write("prompt_html_entities.inc", "Named characters of HTML5: name and code points. \"!\": also valid without the semicolon.",
          'R"(\n' + "\n".join(lines) + '\n)"')


def make_code_pages():
    rows = []
    for encoding in CHARMAP_ENCODINGS:
        codes = []
        for byte in range(0x80, 0x100):
            codes.append(f"0x{ord(bytes([byte]).decode(encoding)):X}")
        rows.append(f"{{  // {encoding}\n" + textwrap.fill(", ".join(codes), 98, initial_indent="    ", subsequent_indent="    ") + "}")
    write("prompt_code_pages.inc", "Characters of bytes 0x80 to 0xFF in one-byte encodings, in the order in which ftfy tries them.",
          "{" + ",\n".join(rows) + "}")


def make_categories():
    classes = {**MOJIBAKE_CATEGORIES, **UTF8_CLUES}
    patterns = [re.compile(f"[{characters}]") for characters in classes.values()]
    ranges = []
    for code in range(0x10000):
        mask = sum(1 << bit for bit, pattern in enumerate(patterns) if pattern.match(chr(code)))
        if mask and ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == mask:
            ranges[-1][1] = code
        elif mask:
            ranges.append([code, code, mask])
    names = "".join(f"  {camel(name)} = 1U << {bit},\n" for bit, name in enumerate(classes))
    rows = textwrap.fill(", ".join(f"{{0x{a:X},0x{b:X},0x{m:X}}}" for a, b, m in ranges), 98,
                         initial_indent="    ", subsequent_indent="    ")
    write("prompt_character_categories.inc", "Categories of characters that occur in mojibake. Source: ftfy 6.3.1.",
          f"enum Category : uint32_t {{\n{names}}};\nconstexpr CharacterRange kCharacterRanges[] = {{\n{rows}}};")


if __name__ == "__main__":
    make_entities()
    make_code_pages()
    make_categories()
