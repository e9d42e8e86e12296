"""Times forward passes of Wan's transformer: compiled diffusers against `ospnext bench forward`.

  python3 benchmarks/compare_diffusers.py OSPNEXT [--size 14b,1.3b] [--resolution 1280x720,1280x768,832x480]
          [--peers dense,skiparse-masked,skiparse-removed] [--ours dual_end:bf16,dual_end:hif8,full:bf16]
          [--rounds 3] [--max-seconds N]
  python3 benchmarks/compare_diffusers.py --check      the Skiparse peers against fixtures, on the CPU

The peers are WanTransformer3DModel in bf16 with one set of random weights. Every block is compiled
with torch.compile, and cuDNN computes attention. `dense` is the model as it is. `skiparse-masked`
and `skiparse-removed` are padded Skiparse around the same blocks (skiparse_peer.py): padding is
masked, as OSP-Next does without FlashAttention, or removed for self-attention, as OSP-Next does with
FlashAttention.

In each round, every model has one turn, so that all see the same state of the GPU. A turn is one
pass to warm up and the timed passes. Our models run in processes of their own. A table for each size
and resolution shows medians over the rounds, peak memory and ratios. A round does not begin if it
would end after --max-seconds, given the time of the previous round. Needs torch, diffusers, and one
GPU that holds the peers and one of our models (14b: 31 + 31 GiB).
"""

import argparse
import functools
import gc
import re
import shutil
import statistics
import subprocess
import sys
import time

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformerBlock
from skiparse_peer import PADDINGS, Grid, skiparse_peer

SIZES = {
    "14b": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
    "1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
}
LATENT_FRAMES = 21  # of 81 frames
SPARSE_RATIO, NUM_FULL_BLOCKS = 2, 8  # the defaults of `ospnext bench`
PEERS = ("dense", *(f"skiparse-{padding}" for padding in PADDINGS))
GIBIBYTE = 1 << 30


def random_model(size: str) -> WanTransformer3DModel:
    """A model with random weights: bf16, and float32 where from_pretrained keeps float32."""
    with torch.device("meta"):
        model = WanTransformer3DModel(**SIZES[size])
    model.rope = WanRotaryPosEmbed(attention_head_dim=128, patch_size=(1, 2, 2), max_seq_len=1024).cuda()
    for name, module in model.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            wide = any(part in (*name.split("."), key) for part in model._keep_in_fp32_modules)
            drawn = torch.empty(parameter.shape, device="cuda", dtype=torch.float32 if wide else torch.bfloat16)
            module.register_parameter(key, torch.nn.Parameter(drawn.normal_(0, 0.02), requires_grad=False))
    return model.eval()


def build_peers(model: WanTransformer3DModel, names: list, latent) -> dict:
    grid = Grid(LATENT_FRAMES, latent.shape[3] // 2, latent.shape[4] // 2, SPARSE_RATIO)
    if grid.real == grid.padded and set(PEERS[1:]) <= set(names):
        print(f"{PEERS[2]} is {PEERS[1]} here: nothing to pad")
        names = [name for name in names if name != PEERS[2]]
    peers = {}
    for name in names:
        padding = name.removeprefix("skiparse-")
        sparse = padding in PADDINGS
        peers[name] = skiparse_peer(model, latent, SPARSE_RATIO, NUM_FULL_BLOCKS, padding) if sparse else model
        for module in peers[name].modules():
            if isinstance(module, WanTransformerBlock):
                module.compile(fullgraph=True, dynamic=False)
    return peers


@torch.no_grad()
def timed_pass(forward) -> tuple:
    """Runs forward() once; returns its output and the seconds."""
    torch.cuda.synchronize()
    start = time.monotonic()
    output = forward()
    torch.cuda.synchronize()
    return output, time.monotonic() - start


def peer_turn(forward, runs: int) -> tuple:
    """One turn of a peer: returns the median seconds of a pass and the peak bytes of GPU memory."""
    torch.cuda.reset_peak_memory_stats()
    timed_pass(forward)
    seconds = [timed_pass(forward)[1] for _ in range(runs)]
    return statistics.median(seconds), torch.cuda.max_memory_allocated()


def our_turn(command: list) -> tuple:
    """One turn of ours: returns the median seconds of a pass and the peak bytes of GPU memory."""
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(run.stderr.strip() or f"exit status {run.returncode}")
    # The row of forward has milliseconds first and GiB last.
    row = re.search(r"^forward, \w+ +([0-9.]+) .* ([0-9.]+) *$", run.stdout, re.MULTILINE)
    if row is None:
        raise RuntimeError(f"no row of forward in what it printed: {run.stdout!r}")
    return float(row[1]) / 1e3, float(row[2]) * GIBIBYTE


def first_passes(forwards: dict) -> list:
    """Runs each peer once, which compiles it; returns the names of the peers that run."""
    outputs = {}
    for name, forward in forwards.items():
        try:
            (outputs[name],), seconds = timed_pass(forward)
            print(f"{name}: first pass, compiling, {seconds:.1f} s", flush=True)
        except RuntimeError as error:
            print(f"{name}: left out, does not run: {str(error).splitlines()[0]}", flush=True)
    if set(PEERS[1:]) <= set(outputs):
        masked, removed = (outputs[name].float() for name in PEERS[1:])
        print(f"outputs of the two Skiparse peers differ by {(masked - removed).norm() / masked.norm():.1e}")
    return list(outputs)


def print_table(title: str, seconds: dict, peaks: dict) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peers = [name for name in PEERS if name in medians]
    print(f"\n{title}; times as fast as each peer:")
    print(f"{'':26}{'s':>9}{'peak GiB':>10}" + "".join(f"{name:>18}" for name in peers))
    for name, median in medians.items():
        ratios = "".join(f"{medians[peer] / median:18.3f}" for peer in peers)
        label = f"{'diffusers' if name in PEERS else 'ospnext'} {name}"
        print(f"{label:26}{median:9.3f}{peaks[name] / GIBIBYTE:10.1f}{ratios}")
    print(flush=True)


def compare(model: WanTransformer3DModel, size: str, width: int, height: int, arguments, end: float) -> None:
    latent = torch.randn(1, 16, LATENT_FRAMES, height // 8, width // 8, device="cuda", dtype=torch.bfloat16)
    text = torch.randn(1, 512, 4096, device="cuda", dtype=torch.bfloat16)
    step = torch.tensor([500.0], device="cuda")
    peers = build_peers(model, arguments.peers, latent)
    forwards = {name: functools.partial(peer, latent, step, text, return_dict=False) for name, peer in peers.items()}
    turns = {name: functools.partial(peer_turn, forwards[name], arguments.runs) for name in first_passes(forwards)}
    for one in arguments.ours:
        model_type, precision = one.split(":")
        command = [arguments.ospnext, "bench", "forward", "--size", size, "--model-type", model_type]
        command += ["--precision", precision, "--width", str(width), "--height", str(height)]
        turns[one] = functools.partial(our_turn, [*command, "--runs", str(arguments.runs), "--warmup", "1"])

    seconds, peaks, last_round = {name: [] for name in turns}, {name: 0 for name in turns}, 0.0
    for round_ in range(arguments.rounds):
        start = time.monotonic()
        if start + last_round > end:
            break
        for name, turn in list(turns.items()):
            try:
                taken, peak = turn()
            except RuntimeError as error:
                print(f"{name}: left out, does not run: {str(error).splitlines()[-1]}", flush=True)
                del turns[name], seconds[name]
                continue
            seconds[name].append(taken)
            peaks[name] = max(peaks[name], peak)
            print(f"round {round_ + 1}: {name} {taken:.3f} s", flush=True)
        last_round = time.monotonic() - start
    rounds = max((len(values) for values in seconds.values()), default=0)
    if rounds > 0:
        print_table(f"{size}, {width} x {height}, 81 frames, medians of {rounds}", seconds, peaks)


def parse_arguments() -> argparse.Namespace:
    def listed(allowed):
        def parse(text: str) -> list:
            for one in text.split(","):
                if not re.fullmatch(allowed, one):
                    raise argparse.ArgumentTypeError(f"found {one}, expected {allowed}")
            return text.split(",")

        return parse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ospnext", nargs="?")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--size", type=listed("|".join(map(re.escape, SIZES))), default="14b")
    parser.add_argument("--resolution", type=listed("[0-9]+x[0-9]+"), default="1280x720", help="width x height")
    parser.add_argument("--peers", type=listed("|".join(PEERS)), default=",".join(PEERS))
    parser.add_argument("--ours", type=listed("[a-z_]+:[a-z0-9-]+"), default="dual_end:bf16,dual_end:hif8,full:bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1, help="timed passes of a turn, after one to warm up")
    parser.add_argument("--max-seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    if not arguments.check and not shutil.which(arguments.ospnext or ""):
        parser.error(f"found {arguments.ospnext or 'nothing'}, expected the program ospnext")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.check:
        from skiparse_peer_check import check

        sys.exit(0 if check() else 1)
    end = time.monotonic() + arguments.max_seconds
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for size in arguments.size:
        model = random_model(size)
        for resolution in arguments.resolution:
            if time.monotonic() > end:
                print(f"{size}, {resolution}: no time left")
                continue
            width, height = map(int, resolution.split("x"))
            compare(model, size, width, height, arguments, end)
            torch.compiler.reset()  # shapes are static: compiled code is of no use for other shapes
            gc.collect()
            torch.cuda.empty_cache()
        del model


if __name__ == "__main__":
    main()
