#!/usr/bin/env python3
"""Kills a training at random moments and lets the same command go on, until as many kills are done;
compares what it ends with to a training that nothing interrupted, bit for bit.

    tools/kill_trainings.py [--program build/cpu/ospnext] [--command train|rl] [--processes N] [--kills 20]
                            [--seed 0] [--folder DIR] [-- FLAGS OF THE COMMAND, without --output]

Half of the kills fall anywhere between the start and the second checkpoint of a run, the others
while its first, second or third checkpoint is written. Of several processes (`ospnext launch`), one
rank is killed, or the launcher, or all at once. A run that ends before its kills are used up is compared, and another one
begins. After each kill all processes must be gone within a minute. Run it in the repository's root;
on a GPU with `--program build/cuda/ospnext -- --device cuda --deterministic ...`. Needs nothing but
Python. Status 1: something differs, or a run does not go on.
"""
import argparse
import filecmp
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Of the shipped model. Smaller models write their checkpoints too fast to be killed in between.
SMALL = ("--sizes 64x64 --clips 8 --batch-size 4 --steps 24 --warmup-steps 1 --checkpoint-interval 3"
         " --log-interval 3").split()
# Reinforcement learning of the shipped model's LoRA.
SMALL_RL = ("--model models/tiny --device cpu --precision float32 --reward motion --width 32 --height 32 --num-frames 5"
            " --steps 4 --sde-steps 2 --group-size 2 --sample-batch-size 4 --train-batch-size 2 --batches-per-epoch 1"
            " --epochs 8 --save-every 1 --lora-rank 32").split()
PROMPTS = "".join(f"a {colour} {shape}\n" for colour in ("red", "blue", "green") for shape in ("star", "square"))
POLL = 0.002  # seconds
PATIENCE = 60  # seconds until killed processes must be gone


class Failure(Exception):
    """What went wrong, as a sentence."""


def checkpoints(output):
    """The folders of checkpoints, oldest first, each with whether it is complete."""
    folders = sorted((output / "checkpoints").glob("step-*"))
    return [(folder, (folder / "index.json").exists()) for folder in folders]


def is_writing(output):
    return any(not complete for _, complete in checkpoints(output))


def newest_step(output):
    return max((int(folder.name[5:]) for folder, complete in checkpoints(output) if complete), default=0)


def descendants(pid):
    """The process and all that it has started."""
    found = [pid]
    for parent in found:
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                pass  # it has just ended
    return found


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Training:
    """The command, and the files that its runs print to."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.environment = dict(os.environ)
        self.environment.setdefault("OMP_NUM_THREADS", "1")

    def start(self, output):
        launch = ["launch", "-n", str(self.options.processes), "--"] if self.options.processes > 1 else []
        command = [self.options.program, *launch, self.options.command, *self.options.flags, "--output", str(output)]
        with open(self.folder / "printed", "w", encoding="utf-8") as printed:
            return subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=printed,
                                    stderr=subprocess.STDOUT)

    def fail(self, what):
        lines = (self.folder / "printed").read_text(encoding="utf-8").strip().splitlines()
        raise Failure(f"{what}; it printed: {lines[-1] if lines else 'nothing'}")

    def run_whole(self, output):
        """Runs to the end. Returns the seconds until the second checkpoint, and those that one takes."""
        process, began, writing, written, second = self.start(output), time.monotonic(), None, [], None
        while process.poll() is None:
            now = time.monotonic()
            if is_writing(output):
                writing = writing or now
            elif writing:
                written, writing = written + [now - writing], None
            if second is None and sum(complete for _, complete in checkpoints(output)) >= 2:
                second = now - began
            time.sleep(POLL)
        if process.returncode != 0:
            self.fail(f"the uninterrupted training ended with status {process.returncode}")
        return second or time.monotonic() - began, max(written, default=0.1)

    def wait_for_moment(self, process, output, seconds_to_second, seconds_of_writing):
        """Waits for a random moment to kill at. Returns what it was, or None if the run ended first."""
        moment = random.choice(("anywhere", "while writing"))
        if moment == "anywhere":
            until = time.monotonic() + random.uniform(0, seconds_to_second)
        else:
            newest, first = newest_step(output), random.randrange(3)  # checkpoints that are written first
            while process.poll() is None and not (first <= 0 and is_writing(output)):
                if newest_step(output) > newest:
                    newest, first = newest_step(output), first - 1
                time.sleep(POLL)
            until = time.monotonic() + random.uniform(0, seconds_of_writing)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(POLL)
        if process.poll() is not None:
            return None
        return "while writing" if is_writing(output) else "between checkpoints"

    def kill(self, process):
        """Kills one process or all. Returns which; fails if any is left after a while."""
        everyone = descendants(process.pid)
        victims = {"all": everyone, "the launcher": everyone[:1]}
        victims.update((f"rank {i}", [pid]) for i, pid in enumerate(everyone[1:]))
        name = random.choice(list(victims)) if len(everyone) > 1 else "it"
        for pid in victims.get(name, everyone):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        until = time.monotonic() + PATIENCE
        while process.poll() is None or any(map(is_alive, everyone)):
            if time.monotonic() > until:
                self.fail(f"{name} was killed, and processes are left after {PATIENCE} s")
            time.sleep(POLL)
        return name

    def run_with_kills(self, output, kills, *seconds):
        """Kills and goes on until a run ends by itself; kills at most `kills` times. Returns the times."""
        done = []
        while True:
            process, before = self.start(output), newest_step(output)
            moment = self.wait_for_moment(process, output, *seconds) if len(done) < kills else None
            if moment is None:
                if process.wait() != 0:
                    self.fail(f"a training that went on ended with status {process.returncode}")
                return done
            name = self.kill(process)
            step = newest_step(output)
            if step < before:
                self.fail(f"the checkpoint of step {before} was lost")
            done.append(moment)
            print(f"  {moment}: killed {name}; it goes on from step {step}", flush=True)


def compare(one, other):
    """Fails unless both outputs have the same models and the same last checkpoint."""
    last = checkpoints(one)[-1][0].relative_to(one)
    names = [file.relative_to(one) for part in ("model", "lora", last)
             for file in (one / part).rglob("*") if file.is_file()]
    if not names:
        raise Failure(f"{one}: found no model and no LoRA")
    different = [str(name) for name in names
                 if not (other / name).is_file() or not filecmp.cmp(one / name, other / name, shallow=False)]
    if different:
        raise Failure(f"differ from the uninterrupted training: {', '.join(different)}")
    return len(names)


def kill_trainings(options, folder):
    training, kills, runs = Training(options, folder), [], 0
    began = time.monotonic()
    seconds = training.run_whole(folder / "whole")
    print(f"uninterrupted: {time.monotonic() - began:.1f} s, a checkpoint takes {seconds[1]:.2f} s", flush=True)
    while len(kills) < options.kills:
        kills += training.run_with_kills(folder / "killed", options.kills - len(kills), *seconds)
        count = compare(folder / "whole", folder / "killed")
        shutil.rmtree(folder / "killed")
        runs += 1
    print(f"{options.processes} process(es): {len(kills)} kills, {kills.count('while writing')} of them while a "
          f"checkpoint was written; {runs} training(s) went on to the end, with {count} files equal bit for bit; "
          f"{time.monotonic() - began:.0f} s in all")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/cpu/ospnext", help="the built ospnext")
    parser.add_argument("--command", choices=("train", "rl"), default="train")
    parser.add_argument("--processes", type=int, default=1, help="more than one: by ospnext launch")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", help="where the trainings go, new or empty; default: one that is removed")
    parser.add_argument("flags", nargs="*", help="of the command, behind --; default: a small training")
    options = parser.parse_args(arguments)
    if options.processes < 1 or options.kills < 1:
        parser.error("--processes and --kills: expected numbers from 1 on")
    if not os.access(options.program, os.X_OK):
        parser.error(f"--program: found no program {options.program}")
    if options.folder and os.path.isdir(options.folder) and os.listdir(options.folder):
        parser.error(f"--folder: {options.folder} is not empty")
    return options


def main():
    options = parse(sys.argv[1:])
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not options.flags and options.command == "rl":
            (folder / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
            options.flags = [*SMALL_RL, "--prompts", str(folder / "prompts.txt")]
        elif not options.flags:
            options.flags = [*SMALL, "--latent-cache", str(folder / "latents.safetensors")]
        try:
            kill_trainings(options, folder)
        except Failure as failure:
            print(f"kill_trainings: error: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
