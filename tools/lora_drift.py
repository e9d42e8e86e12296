#!/usr/bin/env python3
"""Says which layers of a LoRA move in one direction during a training, and which wander.

    tools/lora_drift.py LORA LORA [LORA ...]

Each LORA is a folder of one training, in the order of its steps: `ospnext convert --checkpoint` makes one of
a checkpoint (--weights raw: of the step itself, not averaged). A movement is the change of the lora_B from one
folder to the next; the first begins at zero, as they do in training. Steps of noise alone make perpendicular
movements; with signal s and noise n their cosine is s²/(s² + n²). Prints the mean of the cosines of each pair
of movements over the layers of a kind, with the standard error, and the root mean square of each movement.
AdamW's momentum of the last steps of a movement goes on in the next: compare movements that are not
neighbours. Needs numpy and safetensors. Status 2: wrong input.
"""
import argparse
import itertools
import math
import pathlib
import sys

import numpy
from gradient_signal import PREFIX, BadInput, cosine, kinds
from safetensors.numpy import load_file

FILE = "adapter_model.safetensors"


def weights_b(folder):
    """The lora_B of a folder, by the names of their layers."""
    file = pathlib.Path(folder, FILE)
    if not file.is_file():
        raise BadInput(f"{folder}: found no {FILE}")
    found = {name.removeprefix(PREFIX): value.astype(numpy.float64).ravel()
             for name, value in load_file(file).items() if name.endswith(".lora_B.weight")}
    if not found:
        raise BadInput(f"{file}: found no lora_B")
    return found


def report(folders):
    found = [weights_b(folder) for folder in folders]
    if any(one.keys() != found[0].keys() for one in found):
        raise BadInput("the LoRAs have different layers")
    movements = [found[0]] + [{name: after[name] - before[name] for name in after}
                              for before, after in itertools.pairwise(found)]
    pairs = list(itertools.combinations(range(len(movements)), 2))
    print(f"{'layers':<16}" + "".join(f"{f'cosine {i + 1}, {j + 1}':>20}" for i, j in pairs)
          + "".join(f"{f'size {i + 1}':>10}" for i in range(len(movements))))
    for kind, names in sorted(kinds(found[0]).items()):
        line = f"{kind:<16}"
        for i, j in pairs:
            cosines = [cosine(movements[i][name], movements[j][name]) for name in names]
            error = numpy.std(cosines, ddof=1) / math.sqrt(len(cosines)) if len(cosines) > 1 else math.nan
            line += f"{f'{numpy.mean(cosines):.3f} +- {error:.3f}':>20}"
        for movement in movements:
            size = math.sqrt(numpy.mean(numpy.concatenate([movement[name] for name in names]) ** 2))
            line += f"{size:>10.5f}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loras", nargs="+", metavar="LORA", help="folder of a LoRA")
    options = parser.parse_args()
    if len(options.loras) < 2:
        parser.error("expected two LoRAs or more")
    try:
        report(options.loras)
    except BadInput as error:
        print(f"lora_drift: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
