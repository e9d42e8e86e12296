#!/usr/bin/env python3
"""Draws what runs of `ospnext rl` gained over their seconds, as an SVG.

    tools/plot_rewards.py OUTPUT.svg [--column reward/world_mean] [--window 60] NAME=LOG.csv[,LOG.csv...] ...

NAME is a configuration, and its LOG.csv are log.csv of `ospnext rl`, one for each seed. A point is the mean
over the optimizer steps of the `window` seconds before it: each epoch has other prompts, so one epoch says
little. Prints the first and the last point of each log. Needs nothing but Python. Status 2: wrong input.
"""
import argparse
import pathlib
import sys

from log_curves import COLOURS, BadInput, Chart, read_log

SECONDS = "seconds_per_step"


def read_curve(path, column, window):
    """Points (seconds, mean of the column over the window before), from the first whole window on."""
    log = read_log(path, (column, SECONDS), positive=(SECONDS,))
    rows, now = [], 0.0
    for step in sorted(log):
        value, seconds = log[step]
        now += seconds
        rows.append((now, value))
    curve = []
    for now, _ in rows:
        inside = [value for then, value in rows if now - window < then <= now]
        if now >= window:
            curve.append((now, sum(inside) / len(inside)))
    if not curve:
        raise BadInput(f"{path}: found {now:.0f} seconds, expected at least the window's {window:g}")
    return curve


def draw(curves, column, window):
    """curves: pairs of a NAME and the points of a log."""
    points = [point for _, curve in curves for point in curve]
    chart = Chart(f"{column} over seconds, mean of {window:g} seconds", max(x for x, _ in points),
                  [y for _, y in points], unit=" s")
    names = list(dict.fromkeys(name for name, _ in curves))
    for name, curve in curves:
        chart.curve(names.index(name), curve)
    for i, name in enumerate(names):
        chart.name(i, name)
    return chart.svg()


def read_all(configurations, column, window):
    names = {spec.partition("=")[0] for spec in configurations}
    if len(names) > len(COLOURS):
        raise BadInput(f"found {len(names)} names, expected at most {len(COLOURS)}")
    curves = []
    for spec in configurations:
        name, _, paths = spec.partition("=")
        if not paths:
            raise BadInput(f"found {spec!r}, expected NAME=LOG.csv,LOG.csv")
        for path in paths.split(","):
            curves.append((name, read_curve(path, column, window)))
            (first, before), (last, after) = curves[-1][1][0], curves[-1][1][-1]
            print(f"{name}: {path}: {before:.4f} at {first:.0f} s, {after:.4f} at {last:.0f} s")
    return curves


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="the SVG")
    parser.add_argument("configurations", nargs="+", metavar="NAME=LOG.csv,LOG.csv")
    parser.add_argument("--column", default="reward/world_mean")
    parser.add_argument("--window", type=float, default=60, help="seconds")
    options = parser.parse_args()
    try:
        if not 0 < options.window < float("inf"):
            raise BadInput(f"--window: found {options.window}, expected seconds above 0")
        curves = read_all(options.configurations, options.column, options.window)
        pathlib.Path(options.output).write_text(draw(curves, options.column, options.window), encoding="utf-8")
    except (BadInput, OSError) as error:
        print(f"plot_rewards: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
