#!/usr/bin/env python3
"""Checks every command that README.md, CONTRIBUTING.md and the Markdown files below docs/ show.

  tools/check_commands.py PROGRAM [ROOT]    PROGRAM: a built ospnext; status 1 if a command is wrong

Commands are the lines of code blocks, fenced as `sh` or indented, and the code spans of sentences
that begin with a program. Each is checked in one of three ways:

  run    in a scratch copy of the repository's files, one for each document, so that a command finds
         what those before it made. SHORTENED says which flags are set to keep the time small. A
         server that a line starts goes on until the document ends; curl asks it, and video_ID
         stands for the newest id in its answers.
  flags  the program reads the command and refuses it, with status 2 and a sentence that names a
         file which is not there: the one that the reader must bring, or, for code spans and for
         commands that need a GPU or much time, a --config of our own, which it misses only after it
         has read all flags. NEEDS lists what a reader must bring, and the words by which the
         section around the command must say so.
  name   make knows the target, cmake the preset, the script is there; nothing is run.

No GPU is visible to what is run, so that all machines check the same.
"""
import collections
import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import typing

from markdown_commands import (CLIENTS, FILE_COMMANDS, LAUNCHERS, OURS, SCRIPT, SYSTEM_COMMANDS,
                               TEST_PROGRAM, VARIABLE, Problem, read_document)

RUN, FLAGS, NAME, WRONG = "run", "flags", "name", "wrong"
SHORTENED = {"generate": {"--steps": "2", "--num-frames": "5"}}


class Verdict(typing.NamedTuple):
    kind: str
    place: str  # "docs/lora.md:6"
    text: str


class Need(typing.NamedTuple):
    """What the repository does not have: how a command shows it, and how the text must say so."""

    in_command: str
    in_text: str
    is_file: bool = True


NEEDS = (
    Need(r"Wan2\.1-T2V-(14B|1\.3B)", r"\bWan-AI\b"),
    Need(r"\w*osp_14b\.yaml", r"\bOSP-Next's\s+(own\s+)?(repository|files?)\b"),
    Need(r"umt5_xxl_fp8\.safetensors", r"\bComfyUI\b"),
    Need(r"\b(style|motion|x|run)\.safetensors", r"\bof\s+your\s+own\b"),
    Need(r"--device cuda\b|--precision hif8(-p8)?(?= )", r"\b(GPUs?|H[12]00)\b", is_file=False),
    Need(r"--size (14b|1\.3b)\b|\bbench\b(?!.*--size small)", r"\bGB\b|\bGPUs?\b", is_file=False),
)

SERVED = re.compile(r"http://127\.0\.0\.1:8000")  # what documents call the server that they start
SHELL_SYNTAX = re.compile(r"[|<>;&$(`].*|.*\$[({\w].*")
FOLDERS = ("benchmarks", "configs", "docs", "models", "src", "tests", "tools")
NOWHERE = "this-file-is-not-there.json"
MAX_SECONDS = 300
DOCUMENTS_AT_A_TIME = 2


def with_values(words, values):
    """The words of a command with flags set to other values."""
    kept = list(words)
    for flag in values:
        while flag in kept:
            del kept[kept.index(flag):kept.index(flag) + 2]
    return kept + [word for pair in values.items() for word in pair]


def inputs(words):
    """The words but for what stands behind --output."""
    return [word for before, word in zip(["", *words], words) if before != "--output"]


def shorter_values(words):
    return next((SHORTENED[word] for word in words if word in SHORTENED), {})


def without_placeholders(words):
    """`-n N -- COMMAND` or `--grid T,H,W` of a sentence as something that the program can read."""
    numbers = [re.sub(r"(?<![\w-])[A-Z](?![\w-])", "1", word) for word in words]
    return ["generate" if word == "COMMAND" else word for word in numbers]


class Session:
    """The commands of one document, in their order and in one scratch folder."""

    def __init__(self, root, program, folder):
        self.root, self.folder = pathlib.Path(root), pathlib.Path(folder)
        self.not_made = []  # what commands would have written that were not run
        self.read = []  # commands whose flags the program has read
        self.server, self.url, self.video = None, "", "video_ID"
        for name in FOLDERS:
            if (self.root / name).is_dir():
                shutil.copytree(self.root / name, self.folder / name)
        programs = self.folder / "build/cpu"
        programs.mkdir(parents=True)
        (programs / "ospnext").symlink_to(pathlib.Path(program).resolve())
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        self.environment.update(PATH=f"{programs}:{os.environ['PATH']}", CUDA_VISIBLE_DEVICES="",
                                OMP_WAIT_POLICY="passive")  # else the program starts itself twice

    def check(self, command):
        """How the command was checked, as (kind, remark). Throws Problem."""
        words = list(itertools.dropwhile(VARIABLE.match, command.words))
        syntax = next(filter(SHELL_SYNTAX.fullmatch, words), None)
        if syntax and not command.in_sentence:
            raise Problem(f"found {syntax}, expected single commands, or several with && between")
        if words[0] in LAUNCHERS and "ospnext" in words:
            self.read_flags(without_placeholders(words[words.index("ospnext"):]))
            return FLAGS, f"needs {words[0]}"
        if OURS.fullmatch(words[0]):
            if command.in_sentence:
                self.find_paths(inputs(words))
                self.read_flags(without_placeholders(words))
                return FLAGS, "in a sentence"
            return self.check_ours(words, command.section)
        if words[0] in CLIENTS and not command.in_sentence:
            self.ask(words)
            return RUN, "of the server"
        if words[0] in FILE_COMMANDS and not command.in_sentence:
            if self.not_there(words):
                return NAME, f"{self.not_there(words)[0]} was not made"
            self.run(words, expected=0)
            return RUN, "as it is"
        self.look_up(words)
        return NAME, words[0]

    def check_ours(self, words, section):
        """The same for a line of a code block that runs our program."""
        text = " ".join(words) + " "
        needs = [(need, found[0]) for need in NEEDS if (found := re.search(need.in_command, text))]
        for need, thing in needs:
            if not re.search(need.in_text, section):
                raise Problem(f"{thing} needs what the repository does not have, and this section "
                              f"does not say so: expected {need.in_text} in it")
        absent = [thing for need, thing in needs if need.is_file] + self.not_there(inputs(words))
        if not needs and not absent:
            if words[1] == "serve":
                self.serve(words)
                return RUN, "until the document ends"
            values = shorter_values(words)
            self.run(with_values(words, values), expected=0)
            return RUN, "with " + " ".join(map(" ".join, values.items())) if values else "as it is"
        self.find_paths(inputs(words))
        self.not_made += [value for flag, value in zip(words, words[1:]) if flag == "--output"]
        for need, thing in needs:
            if not need.is_file:
                self.read_flags(words)
                return FLAGS, f"because of {thing}"
        self.refuse(words, absent)
        return FLAGS, f"{absent[0]} is not there"

    def not_there(self, words):
        """Files that the words name and that commands would have made which were not run."""
        return [name for name in self.not_made
                for word in words if f"{word}/".startswith(f"{name}/")]

    def find_paths(self, words):
        """Throws Problem for a path into the repository where nothing is."""
        for word in words:
            is_there = (self.folder / word).exists() or self.not_there([word])
            if word.split("/")[0] in FOLDERS and not is_there:
                raise Problem(f"found {word}, which is not in the repository")

    def read_flags(self, words):
        """Throws Problem unless the program knows the command and can read its flags."""
        # One process reads them as well as many.
        words = ["1" if before == "-n" else word for before, word in zip(["", *words], words)]
        if words in self.read:
            return
        self.read.append(words)
        if "--help" in words or not any(word.startswith("-") for word in words):
            self.run(words + ["--help"] * ("--help" not in words), expected=0)
        else:
            self.refuse(with_values(words, {"--config": NOWHERE}), [NOWHERE])

    def refuse(self, words, names):
        """Throws Problem unless the program says that one of the files is not there."""
        message = self.run(words, expected=2)
        names_one = any(name in message for name in names)
        if not names_one or not re.search("no such (file|directory)", message, re.IGNORECASE):
            raise Problem(f"expected it to miss {' or '.join(names)}; it says: {message}")

    def run(self, words, expected):
        """Runs a command; the end of what it says. Throws Problem for another exit status."""
        try:
            done = subprocess.run(words, cwd=self.folder, env=self.environment, check=False,
                                  capture_output=True, stdin=subprocess.DEVNULL, text=True,
                                  errors="replace", timeout=MAX_SECONDS)
        except subprocess.TimeoutExpired as late:
            raise Problem(f"it took more than {MAX_SECONDS} s") from late
        message = " / ".join(done.stderr.splitlines()[-3:])
        if done.returncode != expected:
            raise Problem(f"`{shlex.join(words)}` ended with status {done.returncode}, expected "
                          f"{expected}: {message}")
        return message

    def serve(self, words):
        """Starts a server on a free port. Throws Problem if it does not come to listen."""
        self.server = subprocess.Popen(with_values(words, {"--port": "0"}), cwd=self.folder,
                                       env=self.environment, stdout=subprocess.PIPE, text=True,
                                       stderr=subprocess.DEVNULL)
        line = self.server.stdout.readline()
        if not line.startswith("listening on "):
            raise Problem("expected it to listen")
        self.url = line.split()[-1]

    def ask(self, words):
        """Runs curl against the server. Throws Problem for a refusal."""
        words = [SERVED.sub(self.url, word).replace("video_ID", self.video) for word in words]
        if not any(self.url in word for word in words) or not self.url:
            raise Problem("expected a server that an earlier command of the document started")
        done = subprocess.run([*words, "--fail-with-body", "--no-progress-meter", "--noproxy", "*"],
                              cwd=self.folder, env=self.environment, check=False, text=True,
                              capture_output=True, errors="replace", timeout=MAX_SECONDS)
        if done.returncode != 0:
            raise Problem(f"`{shlex.join(words)}` was refused: {done.stdout} {done.stderr}")
        found = re.search(r'"id": ?"(video_[0-9a-f]+)"', done.stdout)
        self.video = found[1] if found else self.video

    def close(self):
        """Ends the server, if one was started."""
        if self.server:
            self.server.kill()
            self.server.communicate()

    def look_up(self, words):
        """Finds what a command that is not run stands for. Throws Problem if it is not there."""
        program, *arguments = words
        test = TEST_PROGRAM.fullmatch(program)
        if program == "make":
            self.run(["make", "-C", str(self.root), "-n", *arguments], expected=0)
        elif program == "cmake":
            preset = dict(zip(words, arguments)).get("--preset", "")
            if f'"name": "{preset}"' not in (self.root / "CMakePresets.json").read_text("utf-8"):
                raise Problem(f"found --preset {preset}, which CMakePresets.json does not have")
        elif test:
            if f"({test[1]} " not in (self.root / "tests/CMakeLists.txt").read_text("utf-8"):
                raise Problem(f"found {program}, which tests/CMakeLists.txt does not have")
        elif SCRIPT.fullmatch(program) or program.startswith("python"):
            script = program if SCRIPT.fullmatch(program) else " ".join(arguments[:1])
            if not any(self.root.glob(script)):
                raise Problem(f"found {script}, which is not in the repository")
        elif program not in LAUNCHERS | FILE_COMMANDS | SYSTEM_COMMANDS:
            raise Problem(f"{program} is of no kind that tools/check_commands.py knows")


def check_document(root, document, program):
    """The Verdicts on the commands of one document."""
    name, verdicts = document.relative_to(root), []
    commands, unreadable = read_document(document.read_text(encoding="utf-8"))
    verdicts += [Verdict(WRONG, f"{name}:{line}", sentence) for line, sentence in unreadable]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as session_ends:
        session = Session(root, program, folder)
        session_ends.callback(session.close)
        for command in commands:
            place = f"{name}:{command.line}"
            try:
                kind, remark = session.check(command)
                shown = shlex.join(command.words)
                verdicts.append(Verdict(kind, place, f"{shown[:60]:60}  {remark}"))
            except Problem as problem:
                verdicts.append(Verdict(WRONG, place, str(problem)))
    return verdicts


def check_tree(root, program):
    """The Verdicts on the commands of all documents below `root`."""
    root = pathlib.Path(root)
    documents = [root / "README.md", root / "CONTRIBUTING.md",
                 *sorted((root / "docs").rglob("*.md"))]
    with concurrent.futures.ThreadPoolExecutor(DOCUMENTS_AT_A_TIME) as pool:
        each = pool.map(lambda document: check_document(root, document, program), documents)
        return list(itertools.chain.from_iterable(each))


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    root = sys.argv[2] if len(sys.argv) == 3 else pathlib.Path(__file__).parent.parent
    verdicts = check_tree(root, sys.argv[1])
    for verdict in sorted(verdicts, key=lambda verdict: verdict.kind == WRONG):
        print(f"{verdict.kind:5}  {verdict.place}: {verdict.text}")
    count = collections.Counter(verdict.kind for verdict in verdicts)
    print(f"{count[RUN]} commands were run, {count[FLAGS]} checked by their flags alone, "
          f"{count[NAME]} by name; {count[WRONG]} are wrong")
    return 1 if count[WRONG] else 0


if __name__ == "__main__":
    sys.exit(main())
