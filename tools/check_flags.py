#!/usr/bin/env python3
"""Checks that docs/training_flags.md has a row for each flag of `ospnext train`, and no other.

  tools/check_flags.py PROGRAM [ROOT]       PROGRAM: a built ospnext; status 1 if a row is wrong

A row is | `--flag` | default | meaning |, with the default as `ospnext train --help` shows it, in
backquotes, or nothing. Its meaning is the writer's: it must not be empty.
"""
import pathlib
import re
import subprocess
import sys

DOCUMENT = "docs/training_flags.md"
IN_HELP = re.compile(r"^  (?:-\w,)?--([\w-]+)(?: ([^\s=]+))?(?:(?: \.\.\.)?=(\S+))?(?= |$)", re.M)
ROW = re.compile(r"^\| `--([\w-]+)` \| *(?:`([^`]*)`)? *\| *(.*?) *\|$", re.M)
LIKE_A_ROW = re.compile(r"^\| *`?--\w.*$", re.M)
EVERYWHERE = {"help", "config"}  # flags that every command has


def flags_in_help(text):
    """{flag: default} of a command's help; a flag without a default has ""."""
    return {name: default or "" for name, _, default in IN_HELP.findall(text)
            if name not in EVERYWHERE}


def problems(help_text, document):
    """A sentence for each row that is missing, wrong or too many."""
    flags, found, rows = flags_in_help(help_text), [], ROW.findall(document)
    seen = set()
    for line in LIKE_A_ROW.findall(document):
        if not ROW.fullmatch(line):
            found.append(f"found {line}, expected | `--flag` | `default` | meaning |")
    for name, default, meaning in rows:
        if name not in flags:
            found.append(f"found --{name}, which `ospnext train` does not have")
        elif name in seen:
            found.append(f"found --{name} twice")
        elif default != flags[name]:
            found.append(f"--{name}: found the default {default or 'nothing'}, expected "
                         f"{flags[name] or 'nothing'}")
        if not meaning:
            found.append(f"--{name}: found no meaning")
        seen.add(name)
    found += [f"found no row for --{name}, whose default is {default or 'nothing'}"
              for name, default in flags.items() if name not in seen]
    return found


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else pathlib.Path(__file__).parent.parent)
    help_text = subprocess.run([sys.argv[1], "train", "--help"], check=True, capture_output=True,
                               text=True).stdout
    wrong = problems(help_text, (root / DOCUMENT).read_text(encoding="utf-8"))
    for sentence in wrong:
        print(f"{DOCUMENT}: {sentence}")
    print(f"{len(flags_in_help(help_text))} flags, {len(wrong)} rows to correct")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
