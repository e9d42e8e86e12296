#!/usr/bin/env python3
"""Counts what makes sources easy or hard to read, and holds the limits that the project set itself.

  tools/measure_sources.py [ROOT]            folder sizes, longest functions, long lines, shape comments
  tools/measure_sources.py --check [ROOT]    one line per violation; exit status 1 if there is any

Limits: a comment and a line of Markdown (outside tables, links and code) have at most 100 columns, a
function at most 60 lines, and a line of src/ that moves axes says the shape that comes out of it.
"""
import pathlib
import re
import sys

MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 60
CODE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
MOVES_AXES = re.compile(
    r"\.(permute|transpose|movedim|flatten|unflatten|view|reshape|unfold|unsqueeze|squeeze|t)\(")
SHAPE = re.compile(r"//.*\[[^\]]*\]|//.*\bshape\b|//.*\bscalar\b")
STRING = re.compile(r'R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'')
COMMENT = re.compile(r"//[^\n]*|/\*(?:.|\n)*?\*/")
NOT_A_FUNCTION = re.compile(
    r"(^|\s)(namespace|struct|class|enum|union|extern|if|for|while|switch|do|else|try|catch)\b[^(]*$|=\s*$")


def source_files(root, tops=("src", "tests", "benchmarks", "examples")):
    return sorted(f for top in tops for f in (root / top).rglob("*") if f.suffix in CODE_SUFFIXES)


def markdown_files(root):
    return sorted(f for f in [*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def blanked(match):
    """As many line ends as the matched text has, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match[0])


def functions(text):
    """(first line, last line, header) of each function body in C++ source `text`."""
    code = STRING.sub(blanked, COMMENT.sub(blanked, text))
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blanked, code, flags=re.M)
    stack = []  # of (is a function, header, line)
    header_start, line = 0, 1
    for place, letter in enumerate(code):
        if letter == "\n":
            line += 1
        elif letter in ";}":
            if letter == "}" and stack:
                is_function, header, first = stack.pop()
                if is_function:
                    yield first, line, header
            header_start = place + 1
        elif letter == "{":
            header = " ".join(code[header_start:place].split())
            inside_function = any(entry[0] for entry in stack)
            is_function = ("(" in header and not inside_function and not NOT_A_FUNCTION.search(header)
                           and not re.match(r"(namespace|struct|class|enum|union)\b", header))
            stack.append((is_function, header, line - code[header_start:place].lstrip().count("\n")))
            header_start = place + 1


def long_functions(file, limit):
    for first, last, header in functions(file.read_text(encoding="utf-8")):
        if last - first + 1 > limit:
            name = re.sub(r"\(.*", "", header).split()[-1]
            yield first, last - first + 1, name


def long_comments(file):
    """Numbers of lines over the limit whose comment reaches beyond it."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if len(line) > MAX_COLUMNS and "//" in STRING.sub(blanked, line):
            yield number


def long_markdown_lines(file):
    """Numbers of lines over the limit outside tables, fenced and indented code, and links."""
    fenced = False
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        is_code = fenced or line.startswith("    ")
        without_links = re.sub(r"\]\([^)]*\)|<http[^>]*>|https?://\S+", "]", line)
        if len(without_links) > MAX_COLUMNS and not is_code and not line.lstrip().startswith("|"):
            yield number


def axis_lines(file):
    """(number, whether it says a shape) of lines that move axes."""
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        code = line.split("//")[0]
        if not MOVES_AXES.search(code):
            continue
        statement = number  # the comment may stand at the end of the statement
        while statement < len(lines) and statement < number + 6 and not SHAPE.search(
                lines[statement - 1]) and not lines[statement - 1].split("//")[0].rstrip().endswith(
                    (";", "{")):
            statement += 1
        yield number, bool(SHAPE.search(lines[statement - 1]))


def folder_sizes(root):
    sizes = {}
    for file in source_files(root, ("src",)):
        folder = file.parent.relative_to(root).as_posix()
        files, lines = sizes.get(folder, (0, 0))
        sizes[folder] = files + 1, lines + len(file.read_text(encoding="utf-8").splitlines())
    return sizes


def violations(root):
    found = []
    for file in source_files(root):
        name = file.relative_to(root)
        found += [f"{name}:{n}: a comment beyond {MAX_COLUMNS} columns" for n in long_comments(file)]
        found += [f"{name}:{n}: {function} has {lines} lines, over {MAX_FUNCTION_LINES}"
                  for n, lines, function in long_functions(file, MAX_FUNCTION_LINES)]
    for file in source_files(root, ("src",)):
        found += [f"{file.relative_to(root)}:{n}: moves axes without saying the shape"
                  for n, says in axis_lines(file) if not says]
    for file in markdown_files(root):
        found += [f"{file.relative_to(root)}:{n}: beyond {MAX_COLUMNS} columns"
                  for n in long_markdown_lines(file)]
    return found


def report(root):
    print("files  lines  folder")
    for folder, (files, lines) in sorted(folder_sizes(root).items()):
        print(f"{files:5}  {lines:5}  {folder}")
    by_length = sorted(((lines, f"{file.relative_to(root)}:{n} {name}") for file in source_files(root)
                        for n, lines, name in long_functions(file, 0)), reverse=True)
    over = sum(lines > MAX_FUNCTION_LINES for lines, _ in by_length)
    print(f"{over} functions over {MAX_FUNCTION_LINES} lines; the longest: "
          f"{by_length[0][1]} with {by_length[0][0]}")
    comments = sum(len(list(long_comments(f))) for f in source_files(root))
    markdown = sum(len(list(long_markdown_lines(f))) for f in markdown_files(root))
    print(f"{comments} lines with a comment beyond {MAX_COLUMNS} columns, {markdown} such of Markdown")
    axes = [says for f in source_files(root, ("src",)) for _, says in axis_lines(f)]
    print(f"{len(axes)} lines move axes, {sum(axes)} of them say the shape")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent)
    if "--check" not in sys.argv:
        report(root)
        return 0
    found = violations(root)
    print("\n".join(found) or "lines, functions and shape comments keep their limits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
