#!/usr/bin/env python3
"""Lets schemathesis try everything that /openapi.json says, and its opposite, on a server.

  python -m pip install -r tools/requirements-schemathesis.txt
  tools/check_openapi.py PROGRAM [FLAG...]

PROGRAM is a built ospnext, FLAGs are those of `schemathesis run` (--max-examples 40). The server is
the check's own, of models/tiny. It takes some minutes; the exit status is that of schemathesis, 0
where each request that the document allows is taken, each that it forbids is refused, and every
answer is as described.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import schemathesis

from own_server import served

MOST_FRAMES = 33
# The limits are the model's own sizes: what is asked for here is also made.
LIMITS = {"max-frames": MOST_FRAMES, "max-width": 128, "max-height": 128, "max-steps": 30,
          "preview": 0, "drain-seconds": 0}


@schemathesis.hook
def filter_case(_context, case):
    """Leaves out what no schema can forbid: fps and seconds that make too many frames together."""
    body = case.body if isinstance(case.body, dict) else {}
    try:
        return float(body["seconds"]) * float(body["fps"]) <= MOST_FRAMES - 1
    except (KeyError, TypeError, ValueError):
        return True


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = pathlib.Path(sys.argv[1]).resolve()
    flags = sys.argv[2:] or ["--max-examples", "40"]
    schemathesis_program = pathlib.Path(sys.executable).with_name("schemathesis")
    this = pathlib.Path(__file__).resolve()
    hooks = {**os.environ, "SCHEMATHESIS_HOOKS": str(this), "PYTHONPATH": str(this.parent)}
    with tempfile.TemporaryDirectory() as folder:
        flags_of_server = [f"--{name}={value}" for name, value in LIMITS.items()]
        with served(program, folder, *flags_of_server, log=subprocess.DEVNULL) as (url, _):
            return subprocess.run([schemathesis_program, "run", f"{url}/openapi.json", *flags],
                                  env=hooks, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
