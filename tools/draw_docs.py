#!/usr/bin/env python3
"""Draws the pictures of the documentation, as SVG files in docs/pictures/.

  tools/draw_docs.py              writes them
  tools/draw_docs.py --check      says which of them are not what this script draws; status 1 if any
"""
import pathlib
import sys
from xml.sax.saxutils import escape

from check_includes import LEVELS

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "docs/pictures"
INK, FAINT, LINE = "#1f2328", "#59636e", "#8c959f"
COLOURS = ("#8ec5ff", "#ffd08a", "#a5dfb0", "#f2a9c4")  # of segments and of ranks
EMPTY = "#f3f4f6"


class Picture:
    """An SVG with a title on a white page, so that it can be read on a dark one, too."""

    def __init__(self, width, height, title):
        self.elements = []
        self.head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
                     f'width="{width}" height="{height}" role="img" font-family="sans-serif">\n'
                     f"<title>{escape(title)}</title>\n")
        self.box(0, 0, width, height, "#ffffff", outline="none", corner=0)
        self.text(width / 2, 34, title, size=20, anchor="middle", weight="bold")

    def box(self, x, y, width, height, fill, outline=LINE, corner=4, dashes="none"):
        self.elements.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
                             f'rx="{corner}" fill="{fill}" stroke="{outline}" '
                             f'stroke-dasharray="{dashes}"/>')

    def text(self, x, y, words, size=14, anchor="start", weight="normal", colour=INK):
        self.elements.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" '
                             f'font-weight="{weight}" fill="{colour}">{escape(words)}</text>')

    def line(self, x1, y1, x2, y2, colour=LINE, width=1.5):
        self.elements.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" '
                             f'stroke="{colour}" stroke-width="{width}"/>')

    def arrow(self, points, colour=INK):
        """A line of pieces that are level or upright, with a head at its end."""
        for (x1, y1), (x2, y2) in zip(points, points[1:]):
            self.line(x1, y1, x2, y2, colour, width=2)
        (x1, y1), (x, y) = points[-2:]
        along = ((x > x1) - (x < x1), (y > y1) - (y < y1))
        back, across = (x - 9 * along[0], y - 9 * along[1]), (5 * along[1], 5 * along[0])
        corners = ((x, y), (back[0] + across[0], back[1] + across[1]),
                   (back[0] - across[0], back[1] - across[1]))
        path = " ".join(f"{x:g},{y:g}" for x, y in corners)
        self.elements.append(f'<polygon points="{path}" fill="{colour}"/>')

    def svg(self):
        return self.head + "\n".join(self.elements) + "\n</svg>\n"


# -- The levels of src/ ----------------------------------------------------------------------------

# The stations of a prompt: folder, on whose level they stand; middle; name; what happens there.
STATIONS = (
    ("cli", 520, "prompt", "ospnext generate"),
    ("models", 520, "UMT5", "words to numbers"),
    ("models", 680, "transformer", "once a noise level"),
    ("models", 840, "VAE", "latent to frames"),
    ("io", 840, "video file", "frames, compressed"),
)


def levels():
    """Folders of src/ by level, and the way of a prompt through them."""
    row, top, highest = 62, 76, max(LEVELS.values())
    picture = Picture(930, top + row * (highest + 1) + 34, "The levels of src/, and a prompt's way")

    def y_of(level):
        return top + row * (highest - level)

    for level in range(highest + 1):
        if level % 2 == 0:
            picture.box(10, y_of(level), 910, row, EMPTY, outline="none", corner=0)
        picture.text(24, y_of(level) + row / 2 + 5, f"level {level}", colour=FAINT)
        folders = [name for name, of_folder in LEVELS.items() if of_folder == level]
        for place, name in enumerate(folders):
            dashes = "none" if (ROOT / "src" / name).is_dir() else "4 3"
            picture.box(90 + 88 * place, y_of(level) + 16, 82, 30, "#ffffff", dashes=dashes)
            picture.text(131 + 88 * place, y_of(level) + 36, name, anchor="middle")

    engine = y_of(LEVELS["engine"])
    picture.box(445, engine + 10, 470, row - 20, COLOURS[1])
    picture.text(680, engine + 28, "text_to_video()", anchor="middle", weight="bold")
    picture.text(680, engine + 45, "calls what stands below, one after the other",
                 size=12, anchor="middle", colour=FAINT)
    for folder, x, name, remark in STATIONS:
        y = y_of(LEVELS[folder])
        picture.box(x - 75, y + 8, 150, row - 16, COLOURS[0])
        picture.text(x, y + 28, name, anchor="middle", weight="bold")
        picture.text(x, y + 45, remark, size=12, anchor="middle", colour=FAINT)
    models, io = y_of(LEVELS["models"]), y_of(LEVELS["io"])
    picture.arrow([(520, y_of(LEVELS["cli"]) + row - 8), (520, engine + 10)])
    picture.arrow([(520, engine + row - 10), (520, models + 8)])
    picture.arrow([(595, models + row / 2), (605, models + row / 2)])
    picture.arrow([(755, models + row / 2), (765, models + row / 2)])
    picture.arrow([(840, models + row - 8), (840, io + 8)])
    picture.arrow([(640, models + row - 8), (640, models + row + 22), (720, models + row + 22),
                   (720, models + row - 8)])
    picture.text(680, models + row + 40, "in 50 steps, say, from noise to latent",
                 size=12, anchor="middle", colour=FAINT)
    picture.text(465, y_of(0) + row + 22,
                 "A folder includes only folders of lower levels. Dashed: to come.",
                 size=13, anchor="middle", colour=FAINT)
    return picture.svg()


# -- Skiparse-2D -----------------------------------------------------------------------------------

SIDE, P = 8, 2  # cells of the frame in the pictures, and the ratio


def token_segment(row, column):
    return row % P * P + column % P


def group_segment(row, column):
    return row // P % P * P + column // P % P


def frame(picture, x, y, cell, colour_of, label_of=None):
    """A frame of SIDE x SIDE cells with its corner at x, y."""
    for row in range(SIDE):
        for column in range(SIDE):
            left, top = x + cell * column, y + cell * row
            picture.box(left, top, cell, cell, colour_of(row, column), corner=0)
            if label_of:
                picture.text(left + cell / 2, top + cell / 2 + 5, str(label_of(row, column)),
                             anchor="middle")


def legend(picture, x, y, what, step):
    for k, colour in enumerate(COLOURS):
        picture.box(x + step * k, y, 16, 16, colour)
        picture.text(x + step * k + 24, y + 13, f"{what} {k}")


def skiparse():
    """The two patterns of Skiparse-2D on one frame."""
    picture = Picture(760, 480, "The two patterns of Skiparse-2D, P = 2")
    patterns = ((60, "token pattern", "every second token of a row and column", token_segment),
                (420, "group pattern", "every second 2 × 2 group of tokens", group_segment))
    for x, name, remark, segment in patterns:
        picture.text(x + 140, 72, name, size=16, anchor="middle", weight="bold")
        picture.text(x + 140, 92, remark, size=13, anchor="middle", colour=FAINT)
        frame(picture, x, 106, 35, lambda r, c, of=segment: COLOURS[of(r, c)], segment)
    legend(picture, 164, 408, "segment", 112)
    picture.text(380, 452, "A token attends to those of its own segment: 1 / P² of the frame.",
                 size=13, anchor="middle", colour=FAINT)
    return picture.svg()


def exchange():
    """Which tokens four ranks hold before and after the one exchange of SSP."""
    picture = Picture(860, 600, "SSP: one exchange between four ranks, P = 2")
    cell, step, left = 17, 200, 62
    rows = ((112, "before", "token", token_segment, group_segment),
            (392, "after", "group", group_segment, token_segment))
    for y, when, pattern, held, other in rows:
        picture.text(430, y - 40, f"{when}: rank k holds segment k of the {pattern} pattern",
                     size=15, anchor="middle", weight="bold")
        for rank in range(P * P):
            x = left + step * rank
            picture.text(x + cell * SIDE / 2, y - 12, f"rank {rank}", anchor="middle")
            frame(picture, x, y, cell,
                  lambda r, c, k=rank: COLOURS[other(r, c)] if held(r, c) == k else EMPTY)
    bottom, top = 112 + cell * SIDE, 392 - 62
    for sender in range(P * P):
        for receiver in range(P * P):
            x = left + cell * SIDE / 2
            picture.line(x + step * sender, bottom + 6, x + step * receiver, top,
                         COLOURS[receiver], width=3)
    picture.box(345, 274, 170, 30, "#ffffff")
    picture.text(430, 294, "one all-to-all", size=15, anchor="middle", weight="bold")
    legend(picture, 250, 544, "rank", 100)
    picture.text(430, 584, "Above, the colour says where a token goes; below, where it came from.",
                 size=13, anchor="middle", colour=FAINT)
    return picture.svg()


# -- Reinforcement learning ------------------------------------------------------------------------

GROUPS, MEMBERS, STEPS = 2, 3, 7  # prompts, videos of each, denoising steps
NOISY = range(3)  # the steps that add noise
SCORES = (0.8, 0.5, 0.2, 0.9, 0.9, 0.3)  # of the videos, for example


def rl_epoch():
    """An epoch of Mix-GRPO: rollouts, rewards, advantages and updates."""
    picture = Picture(960, 420, "An epoch of ospnext rl: 2 prompts, 3 videos of each")
    rows = [96 + 78 * group + 24 * member for group in range(GROUPS) for member in range(MEMBERS)]
    for x, words in ((120, "prompts"), (330, "1. rollout"), (520, "video"), (640, "2. reward"),
                     (830, "3. advantage")):
        picture.text(x, 72, words, size=15, anchor="middle", weight="bold")
    for group in range(GROUPS):
        top = rows[group * MEMBERS]
        picture.box(60, top, 120, 66, COLOURS[0])
        picture.text(120, top + 38, f"prompt {group + 1}", anchor="middle")
        members = range(group * MEMBERS, (group + 1) * MEMBERS)
        mean = sum(SCORES[k] for k in members) / MEMBERS
        for k in members:
            y = rows[k]
            picture.arrow([(184, y + 9), (214, y + 9)])
            for step in range(STEPS):
                picture.box(218 + 32 * step, y, 28, 18, COLOURS[1] if step in NOISY else EMPTY)
            picture.arrow([(444, y + 9), (484, y + 9)])
            picture.box(488, y, 64, 18, COLOURS[2])
            picture.text(640, y + 14, f"{SCORES[k]:.1f}", anchor="middle")
            length = 90 * (SCORES[k] - mean)
            picture.box(830 + min(length, 0), y + 2, abs(length), 14, COLOURS[2 if length > 0 else 3],
                        corner=0)
        picture.line(830, top - 3, 830, top + 69, INK)
    bottom = rows[-1] + 18
    picture.text(330, bottom + 22, "yellow: steps that add noise and keep their latents", size=12,
                 anchor="middle", colour=FAINT)
    picture.text(640, bottom + 22, "while the next rollout runs", size=12, anchor="middle", colour=FAINT)
    picture.text(830, bottom + 22, "compared with the group", size=12, anchor="middle", colour=FAINT)
    picture.arrow([(830, bottom + 34), (830, 346), (644, 346)])
    picture.arrow([(260, bottom + 34), (260, 318)])
    picture.box(160, 322, 480, 50, COLOURS[0])
    picture.text(400, 342, "4. update", size=15, anchor="middle", weight="bold")
    picture.text(400, 360, "the noisy steps of videos with A > 0 become likelier, the others less likely",
                 size=12, anchor="middle", colour=FAINT)
    picture.arrow([(156, 346), (30, 346), (30, 130), (56, 130)])
    picture.text(480, 402, "The next epoch begins with the changed model.", size=13, anchor="middle",
                 colour=FAINT)
    return picture.svg()


PICTURES = {"levels.svg": levels, "skiparse_patterns.svg": skiparse, "ssp_exchange.svg": exchange,
            "rl_epoch.svg": rl_epoch}


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    if sys.argv[1:]:
        stale = [name for name, draw in PICTURES.items()
                 if not (FOLDER / name).is_file() or (FOLDER / name).read_text("utf-8") != draw()]
        for name in stale:
            print(f"docs/pictures/{name}: is not what tools/draw_docs.py draws; run it")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
