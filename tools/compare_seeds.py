#!/usr/bin/env python3
"""Says whether trainings of several configurations learn alike, given logs of several seeds of each.

    tools/compare_seeds.py OUTPUT.svg [--column loss] [--every 100] NAME=LOG.csv,LOG.csv[,...] NAME=...

NAME is a configuration, and its LOG.csv are log.csv of `ospnext train`, one for each seed. At every
hundredth step the mean over the seeds of each configuration must lie within the spread of each other
configuration, from the lowest to the highest of its seeds. Prints a row for each of these steps, and
draws means (lines) and spreads (bands). Needs nothing but Python. Status 0: all means lie within; 1:
some do not; 2: wrong input.
"""
import argparse
import csv
import math
import pathlib
import statistics
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 58, 34, 44
COLOURS = ("#2a6fdb", "#d9822b", "#3a9a5b", "#a04fc0", "#c0392b", "#5f6b7a")


class BadInput(Exception):
    """What is wrong with the logs, as a sentence."""


def read_log(path, column, positive=True):
    """The values of a column by step."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    if not rows or column not in rows[0]:
        raise BadInput(f"{path}: found no column {column}")
    try:
        values = {int(row["step"]): float(row[column]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: found a row that is not a whole step and numbers") from error
    right = (lambda value: 0 < value < math.inf) if positive else math.isfinite
    wrong = next((step for step, value in values.items() if not right(value)), None)
    if wrong is not None:
        raise BadInput(f"{path}: step {wrong}: found {column} {values[wrong]}, "
                       f"expected a {'positive ' if positive else ''}number")
    return values


def read_configurations(specs, column):
    """The logs of each configuration by its name, cut to the steps that all of them have."""
    logs = {}
    for spec in specs:
        name, _, paths = spec.partition("=")
        if not paths or name in logs:
            raise BadInput(f"found {spec!r}, expected NAME=LOG.csv,LOG.csv with a new name")
        logs[name] = [read_log(path, column) for path in paths.split(",")]
        if len(logs[name]) < 2:
            raise BadInput(f"{name}: found one log, expected those of two seeds or more")
    if not 2 <= len(logs) <= len(COLOURS):
        raise BadInput(f"found {len(logs)} configuration(s), expected 2 to {len(COLOURS)}")
    steps = set.intersection(*(set(log) for seeds in logs.values() for log in seeds))
    if not steps:
        raise BadInput("the logs have no step in common")
    return {name: [{step: log[step] for step in sorted(steps)} for log in seeds] for name, seeds in logs.items()}


def summaries(logs):
    """Of each configuration, by step: lowest, mean and highest value of its seeds."""
    return {name: {step: (min(values), statistics.fmean(values), max(values))
                   for step in seeds[0] for values in [[log[step] for log in seeds]]}
            for name, seeds in logs.items()}


def outside(by_name, step):
    """The pairs (a, b) of configurations where the mean of a is outside of the spread of b."""
    return [(a, b) for a in by_name for b in by_name
            if not by_name[b][step][0] <= by_name[a][step][1] <= by_name[b][step][2]]


def report(by_name, every):
    """Prints the rows. Returns whether all means lie within all spreads."""
    steps = [step for step in next(iter(by_name.values())) if step % every == 0]
    if not steps:
        raise BadInput(f"the logs have no common step that is a multiple of {every}")
    failed = 0
    for step in steps:
        means = ", ".join(f"{name} {by_name[name][step][1]:.5g} ({by_name[name][step][0]:.5g} to "
                          f"{by_name[name][step][2]:.5g})" for name in by_name)
        pairs = outside(by_name, step)
        verdict = "within" if not pairs else "; ".join(f"{a} is outside of {b}" for a, b in pairs)
        failed += bool(pairs)
        print(f"step {step}: {means}: {verdict}")
    print(f"{len(steps) - failed} of {len(steps)} steps have all means within all spreads")
    return failed == 0


def draw(by_name, column):
    """The curves as SVG: steps to the right, values upwards on a logarithmic scale."""
    steps = list(next(iter(by_name.values())))
    low, high = (math.log10(pick(value for one in by_name.values() for row in one.values() for value in row))
                 for pick in (min, max))
    high = max(high, low + 1e-6)
    right, up = WIDTH - LEFT - 12, HEIGHT - BOTTOM - TOP

    def place(step, value):
        return (f"{LEFT + step / steps[-1] * right:.1f}",
                f"{HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * up:.1f}")

    def points(pairs):
        return " ".join(",".join(place(*pair)) for pair in pairs)

    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{column}: means and spreads of seeds</text>']
    for fraction in (0, 0.5, 1):
        value, step = 10 ** (low + fraction * (high - low)), fraction * steps[-1]
        x, y = place(step, value)
        parts += [f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y}" y2="{y}" stroke="#ddd"/>',
                  f'<text x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{value:.3g}</text>',
                  f'<text x="{x}" y="{HEIGHT - 14}" text-anchor="middle">{round(step)}</text>']
    for i, (name, rows) in enumerate(by_name.items()):
        band = [(step, row[0]) for step, row in rows.items()] + [(step, rows[step][2]) for step in reversed(steps)]
        mean = [(step, row[1]) for step, row in rows.items()]
        parts += [f'<polygon points="{points(band)}" fill="{COLOURS[i]}" opacity="0.15"/>',
                  f'<polyline points="{points(mean)}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.5"/>',
                  f'<text x="{LEFT + i * 100}" y="34" fill="{COLOURS[i]}">{name}</text>']
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
            f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="the SVG")
    parser.add_argument("configurations", nargs="+", metavar="NAME=LOG.csv,LOG.csv")
    parser.add_argument("--column", default="loss")
    parser.add_argument("--every", type=int, default=100, help="steps between two comparisons")
    options = parser.parse_args()
    try:
        if options.every < 1:
            raise BadInput(f"--every: found {options.every}, expected a number from 1 on")
        by_name = summaries(read_configurations(options.configurations, options.column))
        within = report(by_name, options.every)
        pathlib.Path(options.output).write_text(draw(by_name, options.column), encoding="utf-8")
    except (BadInput, OSError) as error:
        print(f"compare_seeds: error: {error}", file=sys.stderr)
        return 2
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
