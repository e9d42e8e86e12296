#!/usr/bin/env python3
"""Draws columns of training logs (log.csv of `ospnext train-vae` and `train`) as an SVG of curves.

    tools/plot_training_log.py OUTPUT.svg LOG.csv:COLUMN [LOG.csv:COLUMN ...]

One panel a column, logarithmic upwards, steps to the right; rows where the column is empty are left out. Needs
nothing but Python.
"""
import csv
import math
import pathlib
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 240, 58, 34, 28


def read_curve(spec):
    path, column = spec.rsplit(":", 1)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or column not in rows[0]:
        sys.exit(f"{path}: found no column {column}")
    points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
    positive = [(x, y) for x, y in points if y > 0]
    if not positive:
        sys.exit(f"{path}: found no number above 0 in column {column}")
    return f"{pathlib.Path(path).stem}: {column}", positive


def panel(title, points, offset):
    steps = max(x for x, _ in points)
    low, high = (math.log10(f(y for _, y in points)) for f in (min, max))
    high = max(high, low + 1e-6)
    place = lambda x, y: (LEFT + x / steps * (WIDTH - LEFT - 12),
                          HEIGHT - BOTTOM - (math.log10(y) - low) / (high - low) * (HEIGHT - BOTTOM - TOP))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    parts = [f'<g transform="translate({offset},0)" font-family="sans-serif" font-size="11">',
             f'<text x="{LEFT}" y="16" font-weight="bold">{title}</text>',
             f'<polyline points="{line}" fill="none" stroke="#2a6fdb" stroke-width="1.5"/>']
    for fraction in (0, 0.5, 1):
        value = 10 ** (low + fraction * (high - low))
        y = place(0, value)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        x = place(fraction * steps, value)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{round(fraction * steps)}</text>')
    return "\n".join(parts + ["</g>"])


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    curves = [read_curve(spec) for spec in sys.argv[2:]]
    panels = [panel(title, points, i * WIDTH) for i, (title, points) in enumerate(curves)]
    pathlib.Path(sys.argv[1]).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(panels)}" height="{HEIGHT}">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n", encoding="utf-8")


if __name__ == "__main__":
    main()
