"""Columns of log.csv, and curves of them as SVG, for compare_seeds.py and plot_rewards.py."""
import csv
import math

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 58, 34, 44
COLOURS = ("#2a6fdb", "#d9822b", "#3a9a5b", "#a04fc0", "#c0392b", "#5f6b7a")


class BadInput(Exception):
    """What is wrong with the logs, as a sentence."""


def read_log(path, columns, positive=()):
    """The values of the columns by step, a tuple for each. Those of `positive` must be above 0."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    for column in columns:
        if not rows or column not in rows[0]:
            raise BadInput(f"{path}: found no column {column}")
    try:
        values = {int(row["step"]): tuple(float(row[column]) for column in columns) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: found a row that is not a whole step and numbers") from error
    for step, row in values.items():
        for column, value in zip(columns, row):
            if not math.isfinite(value) or (column in positive and value <= 0):
                expected = "a positive number" if column in positive else "a number"
                raise BadInput(f"{path}: step {step}: found {column} {value}, expected {expected}")
    return values


class Chart:
    """Curves with their names above them: x from 0 to `last`, y over the range of `values`."""

    def __init__(self, title, last, values, logarithmic=False, unit=""):
        self.scaled, unscaled = (math.log10, lambda y: 10 ** y) if logarithmic else (float, float)
        self.last, self.low, high = last, self.scaled(min(values)), self.scaled(max(values))
        self.high = max(high, self.low + 1e-6)
        self.parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{title}</text>']
        for fraction in (0, 0.5, 1):
            value = unscaled(self.low + fraction * (self.high - self.low))
            x, y = self.place(fraction * last, value)
            self.parts += [f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
                           f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>',
                           f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{round(fraction * last)}{unit}'
                           '</text>']

    def place(self, x, y):
        return (LEFT + x / self.last * (WIDTH - LEFT - 12),
                HEIGHT - BOTTOM - (self.scaled(y) - self.low) / (self.high - self.low) * (HEIGHT - BOTTOM - TOP))

    def points(self, pairs):
        return " ".join("{:.1f},{:.1f}".format(*self.place(*pair)) for pair in pairs)

    def band(self, i, pairs):
        self.parts.append(f'<polygon points="{self.points(pairs)}" fill="{COLOURS[i]}" opacity="0.15"/>')

    def curve(self, i, pairs):
        self.parts.append(f'<polyline points="{self.points(pairs)}" fill="none" stroke="{COLOURS[i]}" '
                          'stroke-width="1.5"/>')

    def name(self, i, text):
        self.parts.append(f'<text x="{LEFT + i * 100}" y="34" fill="{COLOURS[i]}">{text}</text>')

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
                'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(self.parts) +
                "\n</svg>\n")
