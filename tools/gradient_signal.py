#!/usr/bin/env python3
"""Says how much of a policy's gradient is signal, from runs that saw different videos.

    tools/gradient_signal.py --videos N RUN RUN [RUN ...]

Each RUN is the output folder of `ospnext rl` after its first optimizer step, of N videos. All runs begin
with the same LoRA (--initial-lora) and differ in --seed alone. AdamW's first moment in a checkpoint is then
a multiple of the gradient. If it were noise alone, the gradients of two runs would be perpendicular; their
cosine c, the mean over all pairs of runs, says that c / (1 - c) of the noise's square is signal, and
N (1 - c) / c videos make them equal. Prints this for all layers together and for each kind of layer, with
the standard error over the pairs, which share runs and so are not independent. Needs numpy and safetensors.
Status 2: wrong input.
"""
import argparse
import collections
import itertools
import math
import pathlib
import sys

import numpy
from safetensors.numpy import load_file

MOMENT = "first."
PREFIX = "base_model.model."
NEGLIGIBLE = 1e-6


class BadInput(Exception):
    """What is wrong with the runs, as a sentence."""


def gradients(run):
    """The first moments of a run's newest checkpoint, by the names of the tensors."""
    complete = sorted(index.parent for index in pathlib.Path(run, "checkpoints").glob("step-*/index.json"))
    if not complete:
        raise BadInput(f"{run}: found no checkpoint")
    found = {}
    for file in complete[-1].glob("*.safetensors"):
        for name, value in load_file(file).items():
            if name.startswith(MOMENT):
                found[name[len(MOMENT):].removeprefix(PREFIX)] = value.astype(numpy.float64).ravel()
    largest = max((numpy.abs(value).max() for value in found.values()), default=0)
    if largest == 0:
        raise BadInput(f"{complete[-1]}: found no gradients")
    # lora_A has next to none while lora_B is next to 0.
    return {name: value for name, value in found.items() if numpy.abs(value).max() > NEGLIGIBLE * largest}


def kinds(names):
    """Names of tensors by the kind of their layer: blocks.3.self_attn.q.lora_B.weight -> self_attn.q."""
    groups = collections.defaultdict(list)
    for name in names:
        parts = name.removesuffix(".weight").removesuffix(".lora_A").removesuffix(".lora_B").split(".")
        kind = ".".join(parts[2:]) if parts[0] == "blocks" else ".".join(parts)
        for group in dict.fromkeys(("all", kind.split(".")[0], kind)):
            groups[group].append(name)
    return groups


def cosine(a, b):
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def report(runs, videos):
    found = [gradients(run) for run in runs]
    if any(one.keys() != found[0].keys() for one in found):
        raise BadInput("the runs train different layers")
    print(f"{'layers':<16}{'numbers':>10}{'cosine':>10}{'+-':>9}{'videos for signal = noise':>27}")
    for kind, names in sorted(kinds(found[0]).items()):
        vectors = [numpy.concatenate([one[name] for name in names]) for one in found]
        cosines = [cosine(a, b) for a, b in itertools.combinations(vectors, 2)]
        mean = sum(cosines) / len(cosines)
        error = numpy.std(cosines) / math.sqrt(len(cosines)) if len(cosines) > 1 else math.nan
        enough = f"{videos * (1 - mean) / mean:,.0f}" if mean > error else "not seen"
        print(f"{kind:<16}{len(vectors[0]):>10}{mean:>10.4f}{error:>9.4f}{enough:>27}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, required=True, help="of the first optimizer step of each run")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folder of ospnext rl")
    options = parser.parse_args()
    if options.videos < 1 or len(options.runs) < 2:
        parser.error("expected --videos from 1 on and two runs or more")
    try:
        report(options.runs, options.videos)
    except BadInput as error:
        print(f"gradient_signal: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
