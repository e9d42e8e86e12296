#!/usr/bin/env python3
"""Loads a server with many clients, kills it at random moments, and counts what was lost.

  tools/load_server.py PROGRAM [--clients 64] [--pause 0.3] [--seconds 120] [--kills 0] [--queued 16]

A server of models/tiny runs in a folder of its own. Clients ask for small videos, read their states
and lists, and cancel some, each about 1 / --pause times a second. With --kills N the server is killed
(SIGKILL) N times in the given seconds and started again each time. At the end every accepted video
must have ended, each once, and a few completed ones are made again by `generate` and compared. Prints
what was measured; status 1 if anything was lost, doubled, unanswered or different.
"""
import argparse
import collections
import http.client
import json
import pathlib
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

VIDEO = {"num_frames": 5, "num_inference_steps": 2, "size": "64x64", "seed": 7}
STATES = ("completed", "failed", "cancelled")


class Server:
    """`ospnext serve` on one port, which may be killed and started again."""

    def __init__(self, program, folder, queued):
        self.command = [program, "serve", "--model", "models/tiny", "--data", folder / "data",
                        "--max-queued", str(queued), "--max-per-minute", "0", "--lease-seconds", "3",
                        "--preview", "0"]
        self.port, self.process = 0, None
        self.log = (folder / "log").open("w", encoding="utf-8")
        self.start()

    def start(self):
        self.process = subprocess.Popen([*self.command, "--port", str(self.port)], text=True,
                                        stdout=subprocess.PIPE, stderr=self.log)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def memory_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) // 1024


class Clients:
    """What many threads ask for and get."""

    def __init__(self, server, pause):
        self.server, self.pause = server, pause
        self.accepted, self.statuses = set(), collections.Counter()
        self.get_seconds, self.unanswered = [], 0
        self.lock, self.over = threading.Lock(), threading.Event()

    def work(self, seed):
        draw, connection = random.Random(seed), None
        while not self.over.wait(draw.uniform(0, 2 * self.pause)):
            connection = connection or http.client.HTTPConnection("127.0.0.1", self.server.port,
                                                                  timeout=30)
            try:
                self.ask(connection, draw)
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                with self.lock:
                    self.unanswered += 1
                time.sleep(0.1)

    def ask(self, connection, draw):
        method, path, body = "POST", "/v1/videos", None
        with self.lock:
            known = draw.choice(sorted(self.accepted)) if self.accepted else None
        choice = draw.random()
        if choice < 0.5 or known is None:
            body = json.dumps({"prompt": "a red ball", **VIDEO})
        elif choice < 0.52:
            path += f"/{known}/cancel"
        else:
            method, path = "GET", path + (f"/{known}" if choice < 0.95 else "?limit=20")
        began = time.perf_counter()
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        seconds = time.perf_counter() - began
        with self.lock:
            self.statuses[f"{method} {answer.status}"] += 1
            if method == "GET":
                self.get_seconds.append(seconds)
            if body and answer.status == 200:
                self.accepted.add(json.loads(content)["id"])


def rows_of(folder):
    with sqlite3.connect(folder / "data/jobs.sqlite") as database:
        return dict(database.execute("SELECT id, status FROM videos"))


def wait_for_ends(folder, patience=600):
    """The states of all videos once none waits any more."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        rows = rows_of(folder)
        if all(status in STATES for status in rows.values()):
            return rows
        time.sleep(1)
    sys.exit("load_server: videos are still not finished after ten minutes")


def differing(program, folder, ids):
    """Completed videos that `generate` makes otherwise."""
    found = []
    for video in ids:
        record = max((folder / "data/videos" / video).glob("*.json"))
        again = folder / "again.mp4"
        subprocess.run([program, "generate", "--config", record, "--output", again], check=True,
                       capture_output=True)
        if again.read_bytes() != record.with_suffix(".mp4").read_bytes():
            found.append(video)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("program")
    parser.add_argument("--pause", type=float, default=0.3)
    for name, default in (("clients", 64), ("seconds", 120), ("kills", 0), ("queued", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(options.program, folder, options.queued)
        clients = Clients(server, options.pause)
        threads = [threading.Thread(target=clients.work, args=(i,)) for i in range(options.clients)]
        for thread in threads:
            thread.start()
        memory = []
        moments = sorted(draw.uniform(1, options.seconds) for _ in range(options.kills))
        began = time.monotonic()
        for moment in [*moments, options.seconds]:
            while time.monotonic() - began < moment:
                time.sleep(min(1, max(0.0, moment - (time.monotonic() - began))))
                memory.append(server.memory_mib())
            if moment != options.seconds:
                server.kill()
                server.start()
        clients.over.set()
        for thread in threads:
            thread.join()
        rows = wait_for_ends(folder)
        completed = [video for video in sorted(rows) if rows[video] == "completed"]
        lost = clients.accepted - rows.keys()
        different = differing(options.program, folder, draw.sample(completed, min(5, len(completed))))
        server.kill()
    times = sorted(clients.get_seconds)
    print(f"answers: {dict(sorted(clients.statuses.items()))}, unanswered: {clients.unanswered}")
    print(f"GET: median {1000 * times[len(times) // 2]:.1f} ms, p99 "
          f"{1000 * times[len(times) * 99 // 100]:.1f} ms of {len(times)}")
    print(f"memory: {memory[len(memory) // 4]} MiB after a quarter, {memory[-1]} MiB at the end")
    print(f"videos: {len(clients.accepted)} accepted, {dict(collections.Counter(rows.values()))}")
    print(f"lost: {len(lost)}, unlike generate's: {len(different)}")
    is_wrong = bool(lost or different or (clients.unanswered and not options.kills))
    return 1 if is_wrong or any(" 5" in status for status in clients.statuses) else 0


if __name__ == "__main__":
    sys.exit(main())
