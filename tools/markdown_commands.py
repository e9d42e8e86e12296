"""The commands that a Markdown text shows, in its code blocks and in its sentences."""
import collections
import itertools
import re
import shlex
import typing

SHELL_FENCES = ("sh", "bash")
TEXT_FENCES = ("text", "cpp", "cmake", "csv", "diff", "html", "json", "python", "yaml")
INDENTED = "    "

OURS = re.compile(r"ospnext|build/\w+/ospnext")
SCRIPT = re.compile(r"(tools|benchmarks)/\S*\.\w+")
TEST_PROGRAM = re.compile(r"build/\w+/tests/(\w+)")
LAUNCHERS = {"torchrun", "srun", "mpirun"}
FILE_COMMANDS = {"cp", "rm", "mkdir", "ls", "cat"}
CLIENTS = {"curl"}
SYSTEM_COMMANDS = {"apt-get", "cd", "git", "sudo"}
PROGRAMS = LAUNCHERS | FILE_COMMANDS | CLIENTS | SYSTEM_COMMANDS | {"make", "cmake", "python", "python3"}
VARIABLE = re.compile(r"[A-Z_]+=")


class Line(typing.NamedTuple):
    number: int
    text: str  # empty for a fence
    language: str | None  # what the fence around it says, INDENTED, or None for sentences
    section: int  # counts headings


class Command(typing.NamedTuple):
    line: int
    words: list  # as a shell splits them
    section: str  # the text from the heading before it to the one behind it
    in_sentence: bool  # a code span, which may hold placeholders


class Problem(Exception):
    """What is wrong with a command, as a sentence."""


def is_program(word):
    return word in PROGRAMS or any(kind.fullmatch(word) for kind in (OURS, SCRIPT, TEST_PROGRAM))


def read_lines(markdown):
    """The Lines of a Markdown text."""
    lines, fence, language, section, after_blank = [], "", None, 0, True
    for number, text in enumerate(markdown.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)\s*(\w*)", text)
        if mark and (not fence or text.strip() == fence):
            fence, language = ("", None) if fence else (mark[1], mark[2])
            lines.append(Line(number, "", None, section))
            continue
        if text.strip() and not fence:
            is_indented = text.startswith(INDENTED) and (language == INDENTED or after_blank)
            language = INDENTED if is_indented else None
            section += text.startswith("#")
        after_blank = not text.strip()
        lines.append(Line(number, text, language, section))
    return lines


def split_words(lines):
    """Yields (number, words) of each command: lines joined at backslashes and cut at `&&`."""
    joined, begin = "", 0
    for number, text in lines:
        begin = begin if joined else number
        joined += text
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        words, joined = shlex.split(joined, comments=True), ""
        for is_end, command in itertools.groupby(words, lambda word: word == "&&"):
            if not is_end:
                yield begin, list(command)
    if joined:
        raise Problem("found a backslash at the end of the block's last line")


def split_spans(lines):
    """Yields (number, words) of each span that begins with a program; `a|b` gives one for each."""
    text = "\n".join(text for _, text in lines)
    for span in re.finditer(r"(?<!`)`((?:(?!\n\n)[^`])+)`(?!`)", text):
        number = lines[0][0] + text.count("\n", 0, span.start())
        code = span[1].replace("\\|", "|").replace("\n", " ")
        code = re.sub(r"[\[\]…]|\.\.\.(?=\s|$)", "", code)
        if not is_program(next((word for word in code.split() if not VARIABLE.match(word)), "")):
            continue
        for _, words in split_words([(number, code)]):
            choices = [word.strip("|").split("|") for word in words]
            for chosen in range(max(map(len, choices))):
                yield number, [choice[min(chosen, len(choice) - 1)] for choice in choices]


def split_block(language, lines):
    """Yields (number, words) of the commands of a code block."""
    if language in TEXT_FENCES:
        return
    if language not in SHELL_FENCES:
        if language not in (INDENTED, ""):
            known = ", ".join(SHELL_FENCES + TEXT_FENCES)
            raise Problem(f"found a block of {language}, expected one of {known}")
        words = [text.split() for _, text in lines if text.strip()]
        has_flag = any(re.match("--[a-z]", word) for line in words for word in line)
        if not has_flag and not any(is_program(line[0]) for line in words):
            return
        if language == "":
            raise Problem("found commands in a fence that names no language, expected ```sh")
    yield from split_words(lines)


def read_document(markdown):
    """The Commands of a Markdown text, and (line, sentence) for each block that cannot be read."""
    commands, problems, lines = [], [], read_lines(markdown)
    sections = collections.defaultdict(str)
    for line in lines:
        sections[line.section] += line.text + "\n"
    for (language, section), block in itertools.groupby(lines, lambda l: (l.language, l.section)):
        block = [(line.number, line.text) for line in block]
        split = split_spans(block) if language is None else split_block(language, block)
        try:
            for number, words in split:
                commands.append(Command(number, words, sections[section], language is None))
        except (Problem, ValueError) as problem:  # ValueError: a quotation mark is not closed
            problems.append((block[0][0], str(problem)))
    return commands, problems
