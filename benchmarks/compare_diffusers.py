"""Whole forward passes of the 14B transformer: diffusers, compiled, against `ospnext bench forward`, in turns.

  python3 benchmarks/compare_diffusers.py OSPNEXT [--size 14b|1.3b] [--height 720 --width 1280] [--rounds 3]
          [--ours dual_end:bf16,dual_end:hif8,full:bf16]

The peer is WanTransformer3DModel with random weights, bf16, every block under torch.compile, dense attention by
cuDNN. Each round times one pass of the peer, then one of each of ours in a process of its own, so that all see the
same state of the card; printed are medians over rounds and ratios. Needs torch, diffusers and one GPU that holds
both models (14b: 31 + 31 GiB).
"""

import argparse
import re
import statistics
import subprocess
import time

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

SIZES = {
    "14b": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
    "1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
}
LATENT_FRAMES = 21  # of 81 frames


def random_peer(size: str) -> WanTransformer3DModel:
    """bf16, but for the parameters that from_pretrained keeps in float32."""
    with torch.device("meta"):
        model = WanTransformer3DModel(**SIZES[size])
    model.rope = WanRotaryPosEmbed(attention_head_dim=128, patch_size=(1, 2, 2), max_seq_len=1024).cuda()
    for name, module in model.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            wide = any(part in (*name.split("."), key) for part in model._keep_in_fp32_modules)
            drawn = torch.empty(parameter.shape, device="cuda", dtype=torch.float32 if wide else torch.bfloat16)
            module.register_parameter(key, torch.nn.Parameter(drawn.normal_(0, 0.02), requires_grad=False))
    return model.eval()


def peer_forward(size: str, height: int, width: int):
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)
    model = random_peer(size)
    for block in model.blocks:
        block.compile(fullgraph=True, dynamic=False)
    latent = torch.randn(1, 16, LATENT_FRAMES, height // 8, width // 8, device="cuda", dtype=torch.bfloat16)
    text = torch.randn(1, 512, 4096, device="cuda", dtype=torch.bfloat16)
    step = torch.tensor([500.0], device="cuda")
    return lambda: model(latent, step, text, return_dict=False)


@torch.no_grad()
def seconds_of(forward) -> float:
    torch.cuda.synchronize()
    start = time.time()
    forward()
    torch.cuda.synchronize()
    return time.time() - start


def our_seconds(program: str, arguments, model_type: str, precision: str) -> float:
    command = [program, "bench", "forward", "--size", arguments.size, "--model-type", model_type, "--precision", precision]
    command += ["--width", str(arguments.width), "--height", str(arguments.height), "--runs", "1", "--warmup", "1"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(rf"^forward, {model_type} +([0-9.]+)", printed, re.MULTILINE)[1]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ospnext")
    parser.add_argument("--size", choices=SIZES, default="14b")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", default="dual_end:bf16,dual_end:hif8,full:bf16")
    arguments = parser.parse_args()

    ours = [tuple(one.split(":")) for one in arguments.ours.split(",")]
    peer = peer_forward(arguments.size, arguments.height, arguments.width)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    print(f"peer's first pass, compiling: {seconds_of(peer):.1f} s", flush=True)
    seconds = {"peer": []} | {one: [] for one in ours}
    for round_ in range(arguments.rounds):
        seconds["peer"].append(seconds_of(peer))
        print(f"round {round_}: peer {seconds['peer'][-1]:.3f} s", end="", flush=True)
        for one in ours:
            seconds[one].append(our_seconds(arguments.ospnext, arguments, *one))
            print(f", {':'.join(one)} {seconds[one][-1]:.3f} s", end="", flush=True)
        print(flush=True)
    of_peer = statistics.median(seconds["peer"])
    print(f"{arguments.size}, {arguments.width} x {arguments.height}, medians of {arguments.rounds}")
    print(f"diffusers, compiled, dense   {of_peer:7.3f} s")
    for one in ours:
        median = statistics.median(seconds[one])
        print(f"ospnext {':'.join(one):20} {median:7.3f} s   {of_peer / median:.3f} times as fast")


if __name__ == "__main__":
    main()
