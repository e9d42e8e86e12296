#!/usr/bin/env python3
"""Sends the log of a training (log.csv of `ospnext train` and `train-vae`) to Weights & Biases.

    tools/send_to_wandb.py OUTPUT_FOLDER --project P [--name N] [--follow]

Each column becomes a metric over the training's steps; a row has no value where its cell is empty. --follow also
waits for new rows, until Ctrl-C. Weights & Biases takes only growing steps and takes nothing back. So when a resumed
training has replaced rows that were sent, all rows go to a new run beside the old one, in the same group. Needs
`pip install wandb`.
"""
import argparse
import csv
import math
import pathlib
import sys
import time


class BadInput(Exception):
    """A wrong input, as one sentence."""


def read_rows(log):
    """The rows of a log, a dict of numbers each, with growing steps; none while there is no complete line.

    A row that goes back to an earlier step replaces those from that step on. A last line without its end is still
    being written, or its training was stopped by a loss that is not finite.
    """
    text = log.read_text(encoding="utf-8")
    lines = list(csv.reader(text[:text.rfind("\n") + 1].splitlines()))
    if lines and lines[0][:1] != ["step"]:
        raise BadInput(f"{log}: found {','.join(lines[0])[:60]!r} in line 1, expected names of columns, the first step")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            row = {name: float(cell) for name, cell in zip(lines[0], line, strict=True) if cell}
            if not all(map(math.isfinite, row.values())):
                raise ValueError
            row["step"] = int(line[0])
        except ValueError:
            raise BadInput(f"{log}: found {','.join(line)[:60]!r} in line {number}, expected a whole step and "
                           f"{len(lines[0]) - 1} finite numbers") from None
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    return rows


def read_log(log, follow):
    """read_rows() with one sentence for what is wrong; with `follow` the rows may still be to come."""
    try:
        rows = read_rows(log)
    except FileNotFoundError:
        if not follow or not log.parent.is_dir():
            raise BadInput(f"{log}: found no such file, expected the log of a training") from None
        rows = []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{log}: cannot be read as the log of a training: {error}") from None
    if not rows and not follow:
        raise BadInput(f"{log}: found no row, expected the log of a training")
    return rows


def run_starter(project, name):
    """A function that starts run 1, 2, ... of a group at Weights & Biases."""
    try:
        import wandb
    except ImportError:
        raise BadInput("the Python package wandb is missing: install it with `pip install wandb`") from None

    def start_run(number):
        try:
            return wandb.init(project=project, group=name, name=name if number == 1 else f"{name} ({number})")
        except wandb.Error as error:
            raise BadInput(f"Weights & Biases starts no run: {error}") from None

    return start_run


def send(log, start_run, follow, seconds=5.0):
    """Sends the rows to start_run(1), and all of them to start_run(2), ... each time that sent rows have changed."""
    sent, number, run = [], 1, start_run(1)
    try:
        while True:
            rows = read_log(log, follow)
            # A resumed training first shortens the log; then there is nothing to send yet.
            if any(old != new for old, new in zip(sent, rows)):
                run.finish()
                number += 1
                sent, run = [], start_run(number)
            for row in rows[len(sent):]:
                run.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])
                sent.append(row)
            if not follow:
                return
            time.sleep(seconds)
    finally:
        run.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", metavar="OUTPUT_FOLDER", type=pathlib.Path, help="the training's --output")
    parser.add_argument("--project", required=True, help="of Weights & Biases")
    parser.add_argument("--name", help="of the run (default: that of the folder)")
    parser.add_argument("--follow", action="store_true", help="wait for new rows until Ctrl-C")
    arguments = parser.parse_args()
    name = arguments.name or arguments.folder.resolve().name
    log = arguments.folder / "log.csv"
    try:
        read_log(log, arguments.follow)
        send(log, run_starter(arguments.project, name), arguments.follow)
    except BadInput as error:
        print(f"send_to_wandb: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0 if arguments.follow else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
