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

from compare_seeds import COLOURS, BadInput, read_log

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 58, 34, 44


def read_curve(path, column, window):
    """Points (seconds, mean of the column over the window before), from the first whole window on."""
    values, seconds = read_log(path, column, positive=False), read_log(path, "seconds_per_step")
    rows, now = [], 0.0
    for step in sorted(values):
        now += seconds[step]
        rows.append((now, values[step]))
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
    last, low, high = max(x for x, _ in points), min(y for _, y in points), max(y for _, y in points)
    high = max(high, low + 1e-6)
    right, up = WIDTH - LEFT - 12, HEIGHT - BOTTOM - TOP

    def place(x, y):
        return f"{LEFT + x / last * right:.1f}", f"{HEIGHT - BOTTOM - (y - low) / (high - low) * up:.1f}"

    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{column} over seconds, mean of {window:g} seconds</text>']
    for fraction in (0, 0.5, 1):
        value = low + fraction * (high - low)
        x, y = place(fraction * last, value)
        parts += [f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y}" y2="{y}" stroke="#ddd"/>',
                  f'<text x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{value:.3f}</text>',
                  f'<text x="{x}" y="{HEIGHT - 14}" text-anchor="middle">{round(fraction * last)} s</text>']
    names = list(dict.fromkeys(name for name, _ in curves))
    for name, curve in curves:
        line = " ".join(",".join(place(*point)) for point in curve)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[names.index(name)]}" '
                     'stroke-width="1.5"/>')
    parts += [f'<text x="{LEFT + i * 100}" y="34" fill="{COLOURS[i]}">{name}</text>' for i, name in enumerate(names)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
            f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


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
