#!/usr/bin/env python3
"""Serves from a disk that becomes full: the video fails with a reason, the server goes on.

usage: full_disk_test.py PROGRAM     status 77 where this machine lets nobody mount a disk

The disk is a tmpfs, mounted in a namespace of its own, where that needs no rights.
"""
import errno
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from own_server import served  # pylint: disable=wrong-import-position

INSIDE = "OSPNEXT_FULL_DISK"  # the folder of the disk, set once it is mounted
SKIPPED = 77
VIDEO = {"prompt": "a red ball", "size": "64x64", "seed": 7}


def run_on_small_disk():
    """Runs this script again where a small disk is mounted, which its end unmounts."""
    with tempfile.TemporaryDirectory() as folder:
        for rights in (["--user", "--map-root-user"], []):  # or those that root has
            mount = ["unshare", *rights, "--mount", "sh", "-c",
                     'mount -t tmpfs -o size=24m none "$0" && exec "$@"', folder]
            if subprocess.run([*mount, "true"], check=False, capture_output=True).returncode == 0:
                return subprocess.run([*mount, sys.executable, __file__, sys.argv[1]], check=False,
                                      env={**os.environ, INSIDE: folder}).returncode
    print("full_disk_test: skipped, since this machine lets nobody mount a tmpfs")
    return SKIPPED


def ask(url, path, body=None):
    """Status and JSON of an answer."""
    request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None,
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, {**json.load(error), "retry_after": error.headers["Retry-After"]}


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"there was never {what}"
        time.sleep(0.1)


def fill(disk):
    """Leaves no byte of the disk."""
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error


def check(url, disk, log):
    def state(video):
        return ask(url, f"/v1/videos/{video}")[1]["status"]

    def submit(**fields):
        status, video = ask(url, "/v1/videos", {**VIDEO, **fields})
        assert status == 200, video
        return video["id"]

    before = submit(num_frames=5, num_inference_steps=2)
    wait_for("a first video", lambda: state(before) == "completed")
    failing = submit(num_frames=33, num_inference_steps=12)
    wait_for("a start", lambda: state(failing) == "in_progress")
    fill(disk)
    # The end of the video is in the log, and in the database once that has room.
    wait_for("an end on the full disk", lambda: "No space left" in log.read_text(encoding="utf-8")
             or "database: " in log.read_text(encoding="utf-8"))
    fill(disk)  # with what the video's end gave back
    status, refusal = ask(url, "/v1/videos", VIDEO)
    assert status == 503 and int(refusal["retry_after"]) > 0, (status, refusal)
    assert ask(url, "/health")[1]["status"] == "ok"
    assert len(ask(url, "/v1/videos")[1]["data"]) == 2
    (disk / "ballast").unlink()
    wait_for("an end", lambda: state(failing) == "failed")
    error = ask(url, f"/v1/videos/{failing}")[1]["error"]
    assert "No space left on device" in error["message"], error
    assert str(disk) not in error["message"], error
    assert not (disk / "data/videos" / failing).exists()
    after = submit(num_frames=5, num_inference_steps=2)
    wait_for("a video after it", lambda: state(after) == "completed")
    with urllib.request.urlopen(f"{url}/v1/videos/{after}/content", timeout=30) as answer:
        assert answer.read()[4:8] == b"ftyp"
    return {before: "completed", failing: "failed", after: "completed"}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if INSIDE not in os.environ:
        return run_on_small_disk()
    disk = pathlib.Path(os.environ[INSIDE])
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        flags = ("--preview", 0, "--lease-seconds", 60, "--drain-seconds", 0)
        with served(sys.argv[1], disk / "data", *flags, model=ROOT / "models/tiny", log=log) as (
                url, _):
            try:
                expected = check(url, disk, pathlib.Path(log.name))
            except BaseException:
                print(pathlib.Path(log.name).read_text(encoding="utf-8"))
                raise
    with sqlite3.connect(disk / "data/jobs.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert dict(database.execute("SELECT id, status FROM videos")) == expected
    print("full_disk_test: a video failed for lack of space, and the server went on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
