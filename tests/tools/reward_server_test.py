"""Starts the reward server of docs/rl.md, and asks it by `ospnext score`.

    reward_server_test.py PROGRAM    PROGRAM: a built ospnext
"""
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
MOST_LINES = 36  # it is to stay short


def server_of_document():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/rl.md").read_text(encoding="utf-8"), re.S | re.M)
    code, = [block for block in blocks if "http.server" in block]
    if len(code.splitlines()) > MOST_LINES:
        sys.exit(f"the server of docs/rl.md has {len(code.splitlines())} lines, expected at most {MOST_LINES}")
    return code


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the server of docs/rl.md does not start")


def write_video(file, changes):
    """Four grey frames of 32 x 32, all alike or with a square that moves."""
    with open(file, "wb") as video:
        video.write(b"YUV4MPEG2 W32 H32 F8:1 C420jpeg\n")
        for frame in range(4):
            luma = bytearray([100] * 1024)
            for row in range(12 if changes else 0):
                luma[32 * row + 6 * frame:32 * row + 6 * frame + 10] = b"\xe0" * 10
            video.write(b"FRAME\n" + bytes(luma) + b"\x80" * 512)


def main():
    port, code = free_port(), server_of_document()
    if "8080" not in code:
        sys.exit("the server of docs/rl.md has another port than 8080")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file, changes in (("still", False), ("moving", True)):
            write_video(folder / f"{file}.y4m", changes)
        (folder / "prompts.txt").write_text("a square moves\na wall\n", encoding="utf-8")
        with subprocess.Popen([sys.executable, "-c", code.replace("8080", str(port))],
                              stderr=subprocess.DEVNULL) as server:
            try:
                wait_for(port)
                for reward in ("score:http://127.0.0.1:PORT#detail", "score:http://127.0.0.1:PORT"):
                    reward = reward.replace("PORT", str(port))
                    done = subprocess.run(
                        [sys.argv[1], "score", "--reward", reward, "--videos", folder, "--prompts",
                         folder / "prompts.txt", "--output", folder / "scores.json"],
                        capture_output=True, text=True, check=False, timeout=120)
                    if done.returncode != 0:
                        sys.exit(f"{reward}: status {done.returncode}\n{done.stderr}")
                    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["scores"]
                    moving, still = (entry[reward] for entry in scores)
                    if not moving["total"] > still["total"] or still["prompt_length"] != len("a wall"):
                        sys.exit(f"{reward}: found {scores}")
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
