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
import pathlib
import statistics
import sys

from log_curves import COLOURS, BadInput, Chart, read_log


def read_column(path, column):
    """The values of a column by step, all above 0: they are drawn on a logarithmic scale."""
    return {step: value for step, (value,) in read_log(path, (column,), positive=(column,)).items()}


def read_configurations(specs, column):
    """The logs of each configuration by its name, cut to the steps that all of them have."""
    logs = {}
    for spec in specs:
        name, _, paths = spec.partition("=")
        if not paths or name in logs:
            raise BadInput(f"found {spec!r}, expected NAME=LOG.csv,LOG.csv with a new name")
        logs[name] = [read_column(path, column) for path in paths.split(",")]
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
    values = [value for one in by_name.values() for row in one.values() for value in row]
    chart = Chart(f"{column}: means and spreads of seeds", steps[-1], values, logarithmic=True)
    for i, (name, rows) in enumerate(by_name.items()):
        chart.band(i, [(step, row[0]) for step, row in rows.items()] +
                   [(step, rows[step][2]) for step in reversed(steps)])
        chart.curve(i, [(step, row[1]) for step, row in rows.items()])
        chart.name(i, name)
    return chart.svg()


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
