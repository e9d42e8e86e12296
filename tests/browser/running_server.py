"""`ospnext serve` for tests, with a folder of its own, that may be killed and started again."""
import contextlib
import json
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

from webdriver import free_port, wait_until

MODEL = pathlib.Path(__file__).resolve().parents[2] / "models/tiny"


class RunningServer:
    """The shipped model on the CPU; `folder` is made, and keeps videos over a restart."""

    def __init__(self, program, folder, needs_key=False, **flags):
        folder = pathlib.Path(folder)
        (folder / "loras").mkdir(parents=True)
        (folder / "loras/broken.safetensors").write_bytes(b"no LoRA at all")
        port = free_port()
        self.key, self.address = "", f"http://127.0.0.1:{port}"
        flags = {"model": MODEL, "data": folder / "data", "loras": folder / "loras", "port": port,
                 "devices": "cpu", "preview": 1, "lease_seconds": 2, **flags}
        if needs_key:
            made = subprocess.run([program, "serve", "--new-key", "tester"], check=True,
                                  capture_output=True, text=True).stdout
            self.key, line = re.fullmatch(r"key: +(\S+)\nline: +(.*)\n", made).groups()
            (folder / "keys").write_text(line + "\n", encoding="utf-8")
            flags["keys"] = folder / "keys"
        self.command = [str(program), "serve"]
        for name, value in flags.items():
            self.command += [f"--{name.replace('_', '-')}", str(value)]
        self.log = folder / "log"
        self.start()

    def start(self):
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        wait_until(self.is_up, "the server", 60)

    def is_up(self):
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return urllib.request.urlopen(f"{self.address}/health", timeout=5).status == 200

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, **fields):
        """The JSON that the server answers."""
        request = urllib.request.Request(
            self.address + path, json.dumps(fields).encode() if fields else None, method=method,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def videos(self):
        """All videos, the newest first."""
        return self.ask("GET", "/v1/videos?order=desc&limit=100")["data"]
