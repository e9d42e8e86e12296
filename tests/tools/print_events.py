"""Prints what TensorBoard reads from the event files of a folder: a line "TAG STEP TIME VALUE" a point.

usage: print_events.py FOLDER      exit status 77 when the package of tools/requirements-tensorboard.txt is missing
"""
import sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as error:
    print(f"print_events: {error}", file=sys.stderr)
    sys.exit(77)

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})  # 0: keep all points
events.Reload()
for tag in sorted(events.Tags()["scalars"]):
    for point in events.Scalars(tag):
        print(tag, point.step, point.wall_time, point.value)
