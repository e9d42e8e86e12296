#!/usr/bin/env python3
"""Checks the direction of includes (docs/design.md section 3) and a few rules of the source tree.

  tools/check_includes.py [ROOT]      prints one line per violation; exit status 1 if there is any
"""
import pathlib
import re
import sys

LEVELS = {
    "core": 0,
    "io": 1, "kernels": 1,
    "quant": 2, "parallel": 2,
    "models": 3, "text": 3, "schedulers": 3, "data": 3,
    "packages": 4,
    "engine": 5,
    "train": 6, "server": 6,
    "rl": 7,
    "bench": 8,
    "cli": 9,
}
MAX_LINES = 500
FREE_OF_TORCH = {"src/quant/hif8.h", "src/quant/hif8_of.h", "src/quant/e4m3.h"}
C10D_USER = "src/parallel/process_group.cpp"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
TORCH_HEADER = re.compile(r"^(torch|ATen|c10)/")
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def is_free_of_torch(path):
    """Files that must compile without torch: kernels for nvcc, their launchers, core/, io/readers/, io/http/ and number formats."""
    return (path.suffix in {".cu", ".cuh"} or path.stem.endswith("_launch")
            or path.parent.as_posix() in {"src/core", "src/io/readers", "src/io/http"}
            or path.as_posix() in FREE_OF_TORCH)


def check_include(path, header):
    """Violations of one #include of `header` in `path` (relative to the root), as sentences."""
    folder = path.parts[1]
    target = header.split("/")[0]
    if folder in LEVELS and target in LEVELS and "/" in header:
        if target != folder and LEVELS[target] >= LEVELS[folder]:
            yield (f"includes {header}: {folder}/ is level {LEVELS[folder]}, {target}/ is level "
                   f"{LEVELS[target]}, and only lower levels may be included")
    if is_free_of_torch(path):
        own_header_with_torch = target in LEVELS and "/" in header and not is_free_of_torch(
            pathlib.PurePosixPath("src", header))
        if TORCH_HEADER.match(header) or own_header_with_torch:
            yield f"includes {header}, but this file must compile without torch"
    if "c10d" in header and path.as_posix() != C10D_USER:
        yield f"includes {header}: only {C10D_USER} uses c10d"


def check_tree(root):
    """All violations below `root`, as `path:line: sentence`."""
    root = pathlib.Path(root)
    violations = []
    for file in sorted(f for top in ("src", "tests", "tools", "benchmarks")
                       for f in (root / top).rglob("*")):
        path = file.relative_to(root)
        if file.suffix not in SOURCE_SUFFIXES | {".py", ".sh"}:
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_LINES:
            violations.append(f"{path}:{len(lines)}: longer than {MAX_LINES} lines")
        if path.parts[0] != "src" or file.suffix not in SOURCE_SUFFIXES or len(path.parts) < 3:
            continue
        if path.parts[1] not in LEVELS:
            violations.append(f"{path}:1: folder {path.parts[1]}/ has no level in tools/check_includes.py")
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if match:
                violations += [f"{path}:{number}: {sentence}" for sentence in check_include(path, match[1])]
    return violations


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent
    violations = check_tree(root)
    print("\n".join(violations) or "includes point to lower levels only; no file is too long")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
