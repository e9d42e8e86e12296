#!/usr/bin/env python3
"""Carries out packaging/Containerfile without a container engine, and makes a video with the result.

  sudo tools/check_containerfile.py [PROGRAM]

Its base image becomes a folder that debootstrap fills, its RUN lines run there by chroot, and its
command at the end. It takes some minutes and a few GB below /var/tmp, needs root and debootstrap,
and is no test of continuous integration. With PROGRAM, built in this working tree, the stage that
compiles is not carried out: PROGRAM and .deps/ stand in for what it makes.
"""
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPE = ROOT / "packaging/Containerfile"
SUITE = "bookworm"
PORT = 18437
# How this machine reaches the packages, which is no part of the recipe.
OF_THE_HOST = ("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf.d",
               "etc/apt/trusted.gpg.d", "etc/resolv.conf", "etc/pip.conf",
               "usr/local/share/ca-certificates")


def run(*command, **options):
    print("$", *command, flush=True)
    return subprocess.run([str(word) for word in command], check=True, **options)


def instructions(text):
    """(name, rest) of each instruction."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


class Stage:
    """A file system that instructions change; `mounts` is an ExitStack."""

    def __init__(self, folder, base, mounts):
        self.root, self.workdir, self.user = folder, "/", ""
        self.variables, self.command = {}, []
        run("cp", "--archive", base, folder)
        run("mount", "--types", "proc", "proc", folder / "proc")
        mounts.callback(run, "umount", folder / "proc")

    def inside(self, path):
        return self.root / os.path.join(self.workdir, path).lstrip("/")

    def chroot(self, *command):
        user = [f"--userspec={self.user}"] if self.user else []
        return ["chroot", *user, self.root, "/usr/bin/env", f"--chdir={self.workdir}", *command]

    def copy(self, sources, place):
        target = self.inside(place)
        for source in sources:
            is_folder = source.is_dir()
            into = target if is_folder or not place.endswith("/") else target / source.name
            into.parent.mkdir(parents=True, exist_ok=True)
            if is_folder:
                shutil.copytree(source, into, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(source, into)

    def carry_out(self, name, rest, stages):
        rest = re.sub(r"\$\{(\w+)\}", lambda match: self.variables[match[1]], rest)
        words = shlex.split(rest)
        if name == "ARG":
            key, _, value = rest.partition("=")
            self.variables[key] = os.environ.get(key, value)
        elif name == "WORKDIR":
            self.workdir = rest
            self.inside("").mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            source = ROOT
            if words[0].startswith("--from="):
                source = stages[words.pop(0).removeprefix("--from=")].root
            self.copy([source / word.lstrip("/") for word in words[:-1]], words[-1])
        elif name == "RUN":
            run(*self.chroot("DEBIAN_FRONTEND=noninteractive", "sh", "-ec", rest))
        elif name == "USER":
            self.user = rest
        elif name in ("ENTRYPOINT", "CMD"):
            self.command += json.loads(rest)
        elif name not in ("EXPOSE", "STOPSIGNAL", "VOLUME"):
            sys.exit(f"{RECIPE}: found {name}, which this script does not know")


def make_base(folder):
    """A minimal Debian, which reaches its packages as this machine does."""
    sites = run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages",
                capture_output=True, text=True).stdout
    site = re.search(rf"^(\S+) {SUITE}$", sites, re.M)[1]
    run("debootstrap", "--variant=minbase", SUITE, folder, site, stdout=subprocess.DEVNULL)
    for name in OF_THE_HOST:
        source, target = pathlib.Path("/") / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy2(source, target)


def stand_in(stage, program):
    """Puts into the stage what it would have made."""
    for folder in (ROOT / ".deps/torch/lib", *(ROOT / ".deps/nvidia").glob("*/lib")):
        stage.copy([folder], f"/opt/ospnext/{folder.relative_to(ROOT)}")
    stage.copy([pathlib.Path(program)], "/opt/ospnext/bin/ospnext")


def build(folder, program, mounts):
    make_base(folder / "base")
    stages, stage, arguments = {}, None, {}
    for name, rest in instructions(RECIPE.read_text(encoding="utf-8")):
        if name == "FROM":
            label = rest.split()[-1] if " AS " in rest else "last"
            stages[label] = stage = Stage(folder / label, folder / "base", mounts)
            if program and label == "build":
                stand_in(stage, program)
        elif stage is None:
            arguments[name] = rest  # ARG of the base image, which debootstrap stands for
        elif not (program and stage is stages.get("build")):
            stage.carry_out(name, rest, stages)
    return stage


def ask(path, **fields):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}", json.dumps(fields).encode() if fields else None,
        headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def make_a_video(stage):
    """Starts the image's command, without keys on this machine alone, and makes a video."""
    flags = ["--host", "127.0.0.1", "--port", str(PORT)]
    at_host, at_keys = stage.command.index("--host"), stage.command.index("--keys")
    kept = [word for place, word in enumerate(stage.command)
            if place not in (at_host, at_host + 1, at_keys, at_keys + 1)]
    # A PROGRAM looks for LibTorch where it was built.
    libraries = "LD_LIBRARY_PATH=/opt/ospnext/.deps/torch/lib"
    server = subprocess.Popen([str(word) for word in stage.chroot(libraries, *kept, *flags)])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                ask("/health")
                break
            if server.poll() is not None:
                return False
            time.sleep(0.3)
        video = ask("/v1/videos", prompt="a red ball", num_frames=5, num_inference_steps=2)
        while video["status"] in ("queued", "in_progress"):
            time.sleep(0.5)
            video = ask(f"/v1/videos/{video['id']}")
        print(json.dumps(video))
        return video["status"] == "completed"
    finally:
        server.terminate()
        print("the server ended with status", server.wait())


def main():
    if len(sys.argv) > 2 or "--help" in sys.argv:
        sys.exit(__doc__)
    program = sys.argv[1] if len(sys.argv) == 2 else ""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, contextlib.ExitStack() as mounts:
        folder = pathlib.Path(name)
        folder.chmod(0o755)  # the user of the image passes through it
        stage = build(folder, program, mounts)
        run("du", "--summarize", "--human-readable", "--one-file-system", stage.root)
        is_made = make_a_video(stage)
    print("the image makes videos" if is_made else "the image made no video")
    return 0 if is_made else 1


if __name__ == "__main__":
    sys.exit(main())
