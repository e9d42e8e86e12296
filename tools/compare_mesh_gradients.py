#!/usr/bin/env python3
"""Compares the gradients that meshes of processes compute to those of one process.

    tools/compare_mesh_gradients.py [--program build/cpu/ospnext] [--processes 4] [--model models/tiny]
                                    [--device cpu|cuda] [--precision float32|bf16] [--latents 4,3,16,16]
                                    [--at-once 1]

Runs `ospnext stage gradients` on random latents [B, 16, F, H, W] and text: in float32 with one process,
then in --precision with one process and with --processes of them in each mesh they can form, blocks whole
and sharded. Prints the relative L2 distance of all gradients together from those in float32. docs/numerics.md
allows 1e-4 in float32 and 0.05 in bf16, and losses that differ by 1e-5 and 0.01. On GPUs the processes use
NCCL. --at-once runs so many meshes at the same time. Needs numpy and safetensors.
Status 1: a distance is larger, or a run fails; 2: wrong input.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy
from safetensors.numpy import load_file, save_file

ALLOWED = {"float32": 1e-4, "bf16": 0.05}
LOSS = {"float32": 1e-5, "bf16": 0.01}
AXES = ("--data-parallel", "--ssp", "--ulysses", "--ring")
BLOCKS = ("", "--shard-group {n}", "--shard-group {n} --recompute attention --offload-weights")


class Failure(Exception):
    """What went wrong, as a sentence."""


def factorisations(n, count):
    """All ways to write n as a product of `count` factors in order."""
    if count == 1:
        return [(n,)]
    return [(first, *rest) for first in range(1, n + 1) if n % first == 0
            for rest in factorisations(n // first, count - 1)]


def meshes(processes, batch, heads, sparse_ratio):
    """The flags of each mesh: the batch, the segments and the heads limit its axes."""
    for data, ssp, ulysses, ring in factorisations(processes, len(AXES)):
        if batch % data == 0 and ssp <= sparse_ratio**2 and heads % ulysses == 0:
            yield " ".join(f"{axis} {n}" for axis, n in zip(AXES, (data, ssp, ulysses, ring)) if n > 1)


def write_input(file, shape, config, seed):
    generator = numpy.random.default_rng(seed)

    def normal(*dimensions):
        return generator.standard_normal(dimensions, dtype=numpy.float32)

    batch, frames, height, width = shape
    latent = (batch, config["in_dim"], frames, height, width)
    save_file({"latent": normal(*latent), "noise": normal(*latent),
               "sigma": generator.uniform(0.1, 0.9, batch).astype(numpy.float32),
               "text": normal(batch, config["text_len"], config["text_dim"])}, file)


def gradients(options, folder, precision, flags=""):
    """Runs the stage, under launch if a mesh is given. Returns loss and gradients by name."""
    output = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "gradients.safetensors"
    launch = ["launch", "-n", str(options.processes), "--"] if flags else []
    command = [options.program, *launch, "stage", "gradients", "--model", options.model, "--input",
               str(folder / "input.safetensors"), "--output", str(output), "--device", options.device,
               "--precision", precision, *flags.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()[-400:]}")
    found = load_file(output)
    output.unlink()
    return {name: value.astype(numpy.float64) for name, value in found.items()}


def distance(found, expected):
    """Relative L2 of all gradients together."""
    if found.keys() != expected.keys():
        raise Failure("the meshes give gradients of other names")
    names = [name for name in expected if name.startswith("gradient.")]
    off = sum(float(((found[name] - expected[name])**2).sum()) for name in names)
    whole = sum(float((expected[name]**2).sum()) for name in names)
    return math.sqrt(off / whole)


def compare(options, folder, config):
    write_input(folder / "input.safetensors", options.latents, config, options.seed)
    expected = gradients(options, folder, "float32")
    bad = 0

    def report(name, found):
        nonlocal bad
        relative = distance(found, expected)
        loss, right = float(found["loss"][0]), float(expected["loss"][0])
        off = relative > ALLOWED[options.precision] or abs(loss / right - 1) > LOSS[options.precision]
        bad += off or not math.isfinite(relative + loss)
        print(f"{relative:.2e}  loss {loss:.6f}  {name}", flush=True)

    print(f"loss of one process in float32: {float(expected['loss'][0]):.6f}; distances of gradients in "
          f"{options.precision}, allowed {ALLOWED[options.precision]:g}:")
    report("one process", gradients(options, folder, options.precision))
    settings = [f"{mesh} {blocks.format(n=options.processes)}".strip()
                for mesh in meshes(options.processes, options.latents[0], config["num_heads"],
                                   config["sparse_ratio"])
                for blocks in BLOCKS]
    with ThreadPoolExecutor(options.at_once) as pool:
        found = pool.map(lambda flags: gradients(options, folder, options.precision, flags), settings)
        for flags, one in zip(settings, found):
            report(flags, one)
    print(f"{len(settings)} settings of {options.processes} processes, {bad} beyond what is allowed")
    return bad


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/cpu/ospnext", help="the built ospnext")
    parser.add_argument("--model", default="models/tiny", help="in diffusers' layout")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=tuple(ALLOWED), default="float32")
    parser.add_argument("--latents", default="4,3,16,16", help="B,F,H,W: clips and their latent size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=1, help="meshes that run at the same time")
    options = parser.parse_args(arguments)
    try:
        options.latents = tuple(int(number) for number in options.latents.split(","))
    except ValueError:
        options.latents = ()
    if len(options.latents) != 4 or min(options.latents) < 1:
        parser.error("--latents: expected four numbers from 1 on, B,F,H,W")
    if options.processes < 2 or options.at_once < 1:
        parser.error("--processes: expected a number from 2 on; --at-once: from 1 on")
    if not os.access(options.program, os.X_OK):
        parser.error(f"--program: found no program {options.program}")
    return options


def main():
    options = parse(sys.argv[1:])
    config_file = pathlib.Path(options.model) / "transformer" / "config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"compare_mesh_gradients: error: {config_file}: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            return 1 if compare(options, pathlib.Path(folder), config) else 0
        except Failure as failure:
            print(f"compare_mesh_gradients: error: {failure}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
