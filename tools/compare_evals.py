#!/usr/bin/env python3
"""Compares two models on the same clips, from the --details of `ospnext eval`.

    tools/compare_evals.py --before BEFORE.csv [...] --after AFTER.csv [...]

The files of both sides belong together in order: the same captions from the same noise, which `eval` makes
with the same --seed and numbers of clips. Prints, for each kind of captions, by how many points more clips
of the second model are right, attribute by attribute, all five, and the mean of the five, each with its
95 % interval (1.96 standard errors of the paired differences). Needs nothing but Python. Status 2: wrong
input.
"""
import argparse
import csv
import math
import statistics
import sys

ATTRIBUTES = ("background", "colour", "size", "shape", "motion")
ALL = "all five"
KEY = ("captions", "seed", "caption")


class BadInput(Exception):
    """What is wrong with the files, as a sentence."""


def read(path):
    """The right attributes, 0 or 1, of each clip by its kind of captions, seed and caption."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        clips = {tuple(row[name] for name in KEY): [float(row[name]) for name in (*ATTRIBUTES, ALL)]
                 for row in rows}
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: found something else than the --details of ospnext eval: {error}") from error
    if not clips:
        raise BadInput(f"{path}: found no clips")
    return clips


def differences(befores, afters):
    """By kind of captions: a list of clips, each with the differences of its attributes."""
    kinds = {}
    for before, after in zip(befores, afters):
        one, other = read(before), read(after)
        if one.keys() != other.keys():
            raise BadInput(f"{before} and {after} have other captions or noise; give eval the same flags")
        for key, values in one.items():
            changes = [b - a for a, b in zip(values, other[key])]
            kinds.setdefault(key[0], []).append([*changes, statistics.fmean(changes[:len(ATTRIBUTES)])])
    return kinds


def together(kinds, beginning, name):
    """The kinds whose names begin alike as one more kind, if there are several."""
    some = [clips for kind, clips in kinds.items() if kind.startswith(beginning)]
    return {name: sum(some, [])} if len(some) > 1 else {}


def interval(changes):
    mean = statistics.fmean(changes)
    error = statistics.pstdev(changes) / math.sqrt(len(changes))
    return f"{100 * mean:+.1f} ({100 * (mean - 1.96 * error):+.1f} to {100 * (mean + 1.96 * error):+.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", nargs="+", required=True, metavar="CSV")
    parser.add_argument("--after", nargs="+", required=True, metavar="CSV")
    options = parser.parse_args()
    if len(options.before) != len(options.after):
        parser.error(f"found {len(options.before)} files before and {len(options.after)} after, "
                     "expected as many")
    try:
        kinds = differences(options.before, options.after)
    except BadInput as error:
        print(f"compare_evals: error: {error}", file=sys.stderr)
        return 2
    kinds.update(together(kinds, "two objects", "two objects, both"))
    print("| captions | clips | " + " | ".join((*ATTRIBUTES, ALL, "mean of the five")) + " |")
    print("|---" * (len(ATTRIBUTES) + 4) + "|")
    for kind, clips in kinds.items():
        print(f"| {kind} | {len(clips)} | " + " | ".join(map(interval, zip(*clips))) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
