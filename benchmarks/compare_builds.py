#!/usr/bin/env python3
"""Times two builds of ospnext in turn: the row "forward, ..." of `ospnext bench forward`.

    python3 benchmarks/compare_builds.py OLD NEW [--rounds 5] -- --size 14b --runs 1 --warmup 1

Prints the milliseconds of each round, both medians, and NEW's over OLD's.
"""
import argparse
import statistics
import subprocess
import sys

NAME_WIDTH = 34  # of the first column of `bench`


def forward_milliseconds(program, flags):
    """The time of one pass; stops the program when its row is there."""
    process = subprocess.Popen([program, "bench", "forward", *flags], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    last = ""
    try:
        for last in process.stdout:
            if last.startswith("forward, "):
                return float(last[NAME_WIDTH:].split()[0])
    finally:
        process.kill()
        process.wait()
    sys.exit(f"{program}: printed no row of a forward pass; its last line: {last.strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="after --: flags of bench forward")
    given = parser.parse_args()
    flags = [flag for flag in given.flags if flag != "--"]
    times = {"old": [], "new": []}
    for _ in range(given.rounds):
        times["old"].append(forward_milliseconds(given.old, flags))
        times["new"].append(forward_milliseconds(given.new, flags))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name}: {' '.join(f'{value:.1f}' for value in values)}; "
              f"median {medians[name]:.1f} ms")
    print(f"new / old: {medians['new'] / medians['old']:.4f}")


if __name__ == "__main__":
    main()
